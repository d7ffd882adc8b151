import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Long life") struct Soak {
        /// The log, its tail and the memtable are small, so that a short run sees many flushes, snapshots and trims.
        private static let smallBounds = [
            "--snapshot-log-bytes", "1m", "--trailing-log-bytes", "256k", "--memtable-bytes", "512k", "--history-bytes",
            "1m",
        ]
        private static let periods = 12

        /// KONTIKI_SOAK_SECONDS says how long; Deploy/soak.sh runs it for hours.
        @Test("Under churn and restarts neither files, memory, descriptors nor reader slots grow without bound")
        func soak() async throws {
            let environment = ProcessInfo.processInfo.environment
            let seconds = environment["KONTIKI_SOAK_SECONDS"].flatMap { Double($0) } ?? 24
            let seed = environment["KONTIKI_SOAK_SEED"].flatMap { UInt64($0) } ?? .random(in: 1...1 << 40)
            report("soak: \(Int(seconds)) s (KONTIKI_SOAK_SECONDS), seed \(seed) (KONTIKI_SOAK_SEED)")
            try await Cluster.run(options: Self.smallBounds) { cluster in
                let churn = Churn(seed: seed)
                var samples: [[Footprint]] = cluster.nodes.map { _ in [] }
                try await withThrowingTaskGroup { group in
                    for writer in 0..<16 { group.addTask { try await churn.run(writer, cluster.client) } }
                    defer { churn.stop() }
                    for period in 0..<Self.periods {
                        try await Task.sleep(for: .seconds(seconds / Double(Self.periods)))
                        // The first node is never restarted: what it gathers, it keeps.
                        if period % 2 == 1 {
                            try await restart(cluster.nodes[1 + period / 2 % 2], hard: period % 4 == 1)
                        }
                        try await cluster.allReady()
                        for (place, node) in cluster.nodes.enumerated() {
                            let footprint = try await Footprint(of: node)
                            report("period \(period + 1), \(node.name): \(footprint)")
                            samples[place].append(footprint)
                        }
                    }
                    try await eventually("a thousand writes are done") { churn.count > 1_000 }
                    churn.stop()
                    try await group.waitForAll()
                }
                report("soak: \(churn.count) writes, \(churn.bytes / 1_000_000) MB of values")
                for (node, footprints) in zip(cluster.nodes, samples) { judge(node.name, footprints) }
                try await measureSpace(cluster)
            }
        }

        private func restart(_ node: NodeProcess, hard: Bool) async throws {
            if hard { await node.crash() } else { #expect(await node.stop() == .exited(0)) }
            try node.start()
        }

        /// After a first third to warm up, the last third must not need more than the second did, but for noise.
        private func judge(_ name: String, _ footprints: [Footprint]) {
            let third = footprints.count / 3
            let (middle, last) = (footprints[third..<2 * third], footprints[(2 * third)...])
            for quantity in Footprint.Quantity.allCases {
                let before = middle.map { $0[quantity] }.max() ?? 0
                let after = last.map { $0[quantity] }.max() ?? 0
                #expect(
                    after <= before + before / 4 + quantity.noise,
                    "\(name): \(quantity.rawValue) grew from \(before) to \(after)"
                )
            }
        }

        /// What the files hold against what the data is, once nobody writes.
        private func measureSpace(_ cluster: Cluster) async throws {
            for node in cluster.nodes {
                let footprint = try await Footprint(of: node)
                func times(_ bytes: Int) -> String {
                    String(format: "%.1f", Double(bytes) / Double(max(footprint.contentBytes, 1)))
                }
                report(
                    """
                    space of \(node.name), as multiples of \(footprint.contentBytes / 1000) kB of keys and values: state \
                    \(times(footprint[.stateBytes])), log \(times(footprint[.logBytes])), snapshots \(times(footprint[.snapshotBytes]))
                    """
                )
            }
        }
    }
}

/// What a node takes of its machine.
private struct Footprint: CustomStringConvertible {
    enum Quantity: String, CaseIterable {
        case memory = "anonymous memory"
        case descriptors, threads
        case readerSlots = "reader slots"
        case logBytes = "bytes of the log's files"
        case stateBytes = "bytes of the state's files"
        case snapshotBytes = "bytes of snapshots"
        case files

        /// What comes and goes with the moment at which one looks.
        var noise: Int {
            switch self {
            case .memory: 48 << 20
            case .logBytes, .stateBytes, .snapshotBytes: 16 << 20
            case .descriptors, .readerSlots: 32
            case .threads, .files: 8
            }
        }
    }

    private var values: [Quantity: Int] = [:]
    var contentBytes = 0

    subscript(quantity: Quantity) -> Int { values[quantity] ?? 0 }

    init(of node: NodeProcess) async throws {
        let process = try #require(node.processID)
        let status = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
        func field(_ name: String) -> Int {
            let line = status.split(separator: "\n").first { $0.hasPrefix(name + ":") } ?? ""
            return line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? 0
        }
        values[.memory] = field("RssAnon") * 1024
        values[.threads] = field("Threads")
        values[.descriptors] = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/fd").count
        for (quantity, folder) in [(Quantity.logBytes, "log"), (.stateBytes, "state"), (.snapshotBytes, "snapshots")] {
            let (bytes, count) = Self.size(of: node.directory + "/" + folder)
            values[quantity] = bytes
            values[.files, default: 0] += count
        }
        let storage = try await node.client.status().storage
        values[.readerSlots] = storage.readerSlots
        contentBytes = storage.contentBytes
    }

    /// Files may go while they are counted.
    private static func size(of folder: String) -> (bytes: Int, files: Int) {
        var (bytes, files) = (0, 0)
        for name in FileManager.default.enumerator(atPath: folder)?.allObjects as? [String] ?? [] {
            var information = stat()
            guard stat(folder + "/" + name, &information) == 0, information.st_mode & S_IFMT == S_IFREG else {
                continue
            }
            // What is allocated: the lock file is sparse.
            bytes += Int(information.st_blocks) * 512
            files += 1
        }
        return (bytes, files)
    }

    var description: String {
        func megabytes(_ quantity: Quantity) -> String { String(format: "%.1f MB", Double(self[quantity]) / 1_000_000) }
        return """
            memory \(megabytes(.memory)), \(self[.descriptors]) descriptors, \(self[.threads]) threads, \(self[.readerSlots]) reader slots, log \
            \(megabytes(.logBytes)), state \(megabytes(.stateBytes)), snapshots \(megabytes(.snapshotBytes)), \(self[.files]) files, content \
            \(contentBytes / 1000) kB
            """
    }
}

import Foundation
import KontikiClient
import Linearizability
import PowerCut
import Testing

extension EndToEndTests {
    @Suite("A power cut of the whole cluster") struct PowerCuts {
        private static let options = [
            "--request-timeout", "1s", "--snapshot-log-bytes", "128k", "--memtable-bytes", "256k",
        ]

        @Test(
            "Every acknowledged write is there when all nodes lose what was not synced at the same moment, again and again"
        )
        func acknowledgedWritesStay() async throws {
            let environment = ProcessInfo.processInfo.environment
            let rounds = environment["KONTIKI_POWER_CUT_ROUNDS"].flatMap { Int($0) } ?? 5
            let seed = environment["KONTIKI_POWER_CUT_SEED"].flatMap { UInt64($0) } ?? .random(in: 1...1 << 40)
            report("power cuts: \(rounds) rounds (KONTIKI_POWER_CUT_ROUNDS), seed \(seed) (KONTIKI_POWER_CUT_SEED)")
            let recorder = HistoryRecorder(keys: 8)
            try await record(recorder, rounds, seed, forgettingSyncs: false)
            let events = recorder.events
            let verdict = try Self.check(events)
            let writes = Self.acknowledgedWrites(events)
            report(
                "power cuts: \(rounds), \(recorder.count(.ok)) answers, \(writes) acknowledged writes, "
                    + "\(recorder.count(.info)) unknown; \(verdict.verdict)"
            )
            if verdict.verdict != .linearizable {
                let path = FileManager.default.temporaryDirectory.appendingPathComponent("power-cut-\(seed).ndjson")
                try Data(events.map(\.line).joined().utf8).write(to: path)
                report("power cuts: the bad history is kept: kontiki verify \(path.path)")
            }
            #expect(verdict.verdict == .linearizable, "\(verdict.offences.map(\.lines)) \(verdict.undecidedKeys)")
        }

        @Test("Nodes whose last syncs did nothing are convicted by what their clients saw")
        func forgottenSyncsAreNoticed() async throws {
            let recorder = HistoryRecorder(keys: 3)
            try await record(recorder, 1, .random(in: 1...1 << 40), forgettingSyncs: true)
            let verdict = try Self.check(recorder.events)
            #expect(verdict.verdict == .notLinearizable)
        }

        private static func acknowledgedWrites(_ events: [HistoryEvent]) -> Int {
            events.count { $0.kind == .ok && $0.function != "get" && $0.revision != nil }
        }

        private static func check(_ events: [HistoryEvent]) throws -> HistoryReport {
            try HistoryFormat.kontiki.check(Array(events.map(\.line).joined().utf8))
        }

        private func record(
            _ recorder: HistoryRecorder,
            _ rounds: Int,
            _ seed: UInt64,
            forgettingSyncs: Bool
        ) async throws {
            var random = SeededGenerator(seed: seed)
            let prepare: (Cluster) throws -> Void = { cluster in
                for node in cluster.nodes { PoweredNode(node).record() }
            }
            try await Cluster.run(options: Self.options, prepare: prepare) { cluster in
                let seeds = (0..<9).map { _ in random.next() }
                try await recorder.record(cluster, seeds: seeds) {
                    for round in 1...rounds {
                        try await recorder.moreAnswers(forgettingSyncs ? 300 : 100)
                        try await Task.sleep(for: .milliseconds(Int.random(in: 0...600, using: &random)))
                        try await cut(cluster, &random, forgettingSyncs: forgettingSyncs)
                        try await cluster.allReady()
                        report("power cuts: round \(round), \(recorder.count(.ok)) answers")
                    }
                    try await recorder.moreAnswers(100)
                    try await eventually("there is enough to judge", every: .milliseconds(100)) {
                        Self.acknowledgedWrites(recorder.events) > 20 * rounds
                    }
                }
            }
        }

        /// All nodes stop at once and come back with what a power cut at this moment may have left them.
        private func cut(_ cluster: Cluster, _ random: inout SeededGenerator, forgettingSyncs: Bool) async throws {
            for node in cluster.nodes { node.pause() }
            for node in cluster.nodes { await node.crash() }
            for node in cluster.nodes {
                let image = forgettingSyncs ? 0 : Int.random(in: 0..<1000, using: &random)
                try PoweredNode(node).losePower(image: image, seed: random.next(), forgettingSyncs: forgettingSyncs)
            }
            for node in cluster.nodes { try node.start() }
        }

    }
}

/// A node whose disk is recorded.
private struct PoweredNode {
    private let node: NodeProcess

    init(_ node: NodeProcess) { self.node = node }

    private var trace: String { node.directory + ".trace" }
    /// What lay in the directory when the recording began.
    private var base: String { node.directory + ".base" }

    /// From the next start on.
    func record() {
        node.setEnvironment([
            "LD_PRELOAD": RecorderLibrary.path, "KONTIKI_DISK_DIR": node.directory, "KONTIKI_DISK_RECORD": trace,
        ])
    }

    /// Replaces the directory by what a power cut now leaves of it. The node does not run.
    func losePower(image: Int, seed: UInt64, forgettingSyncs: Bool) throws {
        let files = FileManager.default
        let disk = try DiskState(base: files.fileExists(atPath: base) ? base : nil)
        let records = try Trace(contentsOf: trace).records
        for (number, record) in records.enumerated() {
            // Whoever has just been taken in would have nothing left at all.
            disk.ignoresSyncs = forgettingSyncs && number > records.count * 3 / 4
            disk.advance(record)
        }
        let left = disk.image(number: image, seed: seed)
        for path in [node.directory, base, trace] where files.fileExists(atPath: path) {
            try files.removeItem(atPath: path)
        }
        try left.write(to: node.directory)
        try left.write(to: base)
    }
}

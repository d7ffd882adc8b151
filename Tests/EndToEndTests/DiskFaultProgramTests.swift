import Foundation
import KontikiClient
import Synchronization
import Testing

extension EndToEndTests.DiskFaults {
    /// `KONTIKI_FAULT_PROGRAM_STRIDE=1` takes every call; see Deploy/disk-faults.sh.
    @Test("The program says what failed and loses nothing, too, whichever call fails")
    func program() async throws {
        let environment = ProcessInfo.processInfo.environment
        let stride = environment["KONTIKI_FAULT_PROGRAM_STRIDE"].flatMap { Int($0) } ?? 16
        let began = ContinuousClock.now
        try await withFastDirectory { directory in
            let bench = ProgramBench(directory: directory)
            let calls = try await bench.run(.none).calls
            #expect(calls.count > 80, "there is a workload")
            let first = Int.random(in: 1...stride)
            let faults = Swift.stride(from: first, through: calls.count, by: stride).flatMap { number in
                DiskFault.Failure.allCases.map { DiskFault(number: number, error: $0) }
            }
            let book = FaultBook(faults)
            try await withThrowingTaskGroup { group in
                for _ in 0..<2 {
                    group.addTask {
                        while let fault = book.next() {
                            let run = try await bench.run(fault)
                            bench.judge(run, fault, book)
                        }
                    }
                }
                try await group.waitForAll()
            }
            report("failing calls, the program: \(book.tally) in \(ContinuousClock.now - began)")
        }
    }
}

/// Runs `kontiki serve` with a failing call, asks it over HTTP, and looks at what the next start finds.
private struct ProgramBench: Sendable {
    struct Run: Sendable {
        var ending: Ending?
        var log: String
        var calls: [String]
        var complaints: [String]
        var acknowledged: Int
        var refused: Int
    }

    private static let keys = (0..<12).map { "program/\($0)" }

    private static func value(_ key: String) -> [UInt8] {
        // Every third is large enough for a flush.
        Array(key.utf8)
            + [UInt8](repeating: 0x7a, count: (Int(key.split(separator: "/")[1]) ?? 0) % 3 == 2 ? 18_000 : 50)
    }

    let directory: String

    func run(_ fault: DiskFault) async throws -> Run {
        let name = "\(fault.number)-\(fault.error.rawValue)"
        let port = try Ports.next()
        let node = try NodeProcess(
            name: name,
            peerAddress: "127.0.0.1:\(port)",
            listenAddress: "127.0.0.1:\(port)",
            directory: directory,
            options: [
                "--memtable-bytes", "16k", "--snapshot-log-bytes", "32k", "--trailing-log-bytes", "4k",
                "--election-timeout", "100ms", "--heartbeat", "20ms", "--request-timeout", "2s",
            ]
        )
        let calls = node.directory + ".calls"
        try node.start(
            "--bootstrap",
            environment: [
                "LD_PRELOAD": DiskSwitches.libraryPath, "KONTIKI_DISK_DIR": node.directory,
                "KONTIKI_DISK_COUNT": calls,
                "KONTIKI_DISK_FAULT": "calls=all nth=\(fault.number) errno=\(fault.error.rawValue)",
            ]
        )
        var ledger = ProgramLedger()
        if await isUp(node) { await work(node, &ledger) }
        let ending = await node.stop()
        let log = node.log
        try node.start("--bootstrap")
        if await isUp(node) {
            try await compare(node.client, &ledger)
        } else {
            ledger.complaints.append("the next start: \(node.log.suffix(400))")
        }
        await node.crash()
        await node.client.shutdown()
        let text = try String(contentsOfFile: calls, encoding: .utf8)
        for path in [node.directory, calls, node.logPath] { try FileManager.default.removeItem(atPath: path) }
        return Run(
            ending: ending,
            log: log,
            calls: text.split(separator: "\n").map(String.init),
            complaints: ledger.complaints,
            acknowledged: ledger.acknowledged.count,
            refused: ledger.refusals
        )
    }

    /// Waits until the node serves; false when it ends instead.
    private func isUp(_ node: NodeProcess) async -> Bool {
        let deadline = ContinuousClock.now + .seconds(60)
        while node.isRunning, ContinuousClock.now < deadline {
            if await node.serves() { return true }
            try? await Task.sleep(for: .milliseconds(10))
        }
        return false
    }

    private func work(_ node: NodeProcess, _ ledger: inout ProgramLedger) async {
        for key in Self.keys {
            let deadline = ContinuousClock.now + .seconds(60)
            while node.isRunning {
                do throws(ClientError) {
                    try await node.client.put(Key(key), Self.value(key))
                    ledger.acknowledged.insert(key)
                    break
                } catch {
                    guard error.code == .storageFull else {
                        if error.outcome != .notExecuted { ledger.unknown.insert(key) }
                        break
                    }
                    ledger.refusals += 1
                    if ContinuousClock.now > deadline { ledger.complaints.append("\(key) is refused for ever") }
                    guard ContinuousClock.now < deadline else { break }
                    await readBack(node, &ledger)
                    try? await Task.sleep(for: .milliseconds(30))
                }
            }
        }
    }

    /// Refused for lack of room: what was acknowledged is read all the same.
    private func readBack(_ node: NodeProcess, _ ledger: inout ProgramLedger) async {
        guard let key = ledger.acknowledged.first else { return }
        var complaint: String?
        // A busy machine may be late once.
        for _ in 0..<5 {
            do {
                let value = try await node.client.get(Key(key))?.value
                complaint = value == Self.value(key) ? nil : "\(key) was misread while there was no room"
                break
            } catch {
                guard node.isRunning else { return }
                complaint = "no read while there was no room: \(error)"
            }
        }
        if let complaint { ledger.complaints.append(complaint) }
    }

    private func compare(_ client: KontikiClient, _ ledger: inout ProgramLedger) async throws {
        let found = try await Listing.all(client, prefix: "")
        for (key, value) in found where value != Self.value(key) || !ledger.mayHold(key) {
            ledger.complaints.append("\(key) holds what was not written")
        }
        for key in ledger.acknowledged where found[key] == nil {
            ledger.complaints.append("\(key) was acknowledged, and is lost")
        }
    }

    func judge(_ run: Run, _ fault: DiskFault, _ book: FaultBook) {
        let failed = run.calls.first { $0.contains(" failed: ") }
        let context = "call \(failed ?? "\(fault.number), none failed"), \(fault.error.rawValue)\n\(run.log)"
        #expect(run.complaints.isEmpty, "\(run.complaints)\n\(context)")
        guard let failed else { return }
        let isHarmless = FaultWorkbench.isHarmless(failed)
        switch run.ending {
        case .exited(0): #expect(isHarmless || fault.error == .noRoom, "an I/O error went unsaid: \(context)")
        case .exited(65...78):
            let says = run.log.contains(fault.message) || run.log.contains("Update of meta page failed")
            #expect(says && run.log.contains(directory), "it does not say what failed: \(context)")
        default: Issue.record("ended with \(run.ending.debugDescription): \(context)")
        }
        book.note { tally in
            tally.hits += 1
            tally.ended += run.ending == .exited(0) ? 0 : 1
            tally.harmless += run.ending == .exited(0) && isHarmless ? 1 : 0
            tally.gotOver += run.ending == .exited(0) && !isHarmless ? 1 : 0
            tally.refusals += run.refused
            tally.acknowledged += run.acknowledged
        }
    }
}

/// What became of the program's writes.
private struct ProgramLedger {
    var acknowledged: Set<String> = []
    var unknown: Set<String> = []
    var refusals = 0
    var complaints: [String] = []

    func mayHold(_ key: String) -> Bool { acknowledged.contains(key) || unknown.contains(key) }
}

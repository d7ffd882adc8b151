import Foundation
import KontikiClient
import Linearizability
import Testing

extension EndToEndTests {
    @Suite("Recorded histories") struct Histories {
        @Test(
            "What clients of all nodes see is linearizable, while leaders are killed, paused and changed",
            arguments: [false, true]
        )
        func linearizable(isMixed: Bool) async throws {
            let environment = ProcessInfo.processInfo.environment
            let rounds = environment["KONTIKI_HISTORY_ROUNDS"].flatMap { Int($0) } ?? (isMixed ? 6 : 9)
            let seed = environment["KONTIKI_HISTORY_SEED"].flatMap { UInt64($0) } ?? .random(in: 1...1 << 40)
            report(
                "history\(isMixed ? " with increments and transactions" : ""): \(rounds) rounds (KONTIKI_HISTORY_ROUNDS), seed \(seed) (KONTIKI_HISTORY_SEED)"
            )
            let recorder = HistoryRecorder(keys: 5, isMixed: isMixed)
            try await Cluster.run(options: ["--request-timeout", "1s", "--snapshot-log-bytes", "256k"]) { cluster in
                try await record(cluster, recorder, rounds, seed)
            }
            let events = recorder.events
            let kinds = [HistoryEvent.Kind.ok, .fail, .info].map { "\(recorder.count($0)) \($0)" }
            report("history: \(recorder.count(.invoke)) operations, \(kinds.joined(separator: ", "))")
            #expect(recorder.count(.ok) > 100 * rounds)
            try await check(events, seed)
            try await checkForgery(events)
        }

        private func record(
            _ cluster: Cluster,
            _ recorder: HistoryRecorder,
            _ rounds: Int,
            _ seed: UInt64
        ) async throws {
            var random = SeededGenerator(seed: seed)
            let seeds = (0..<9).map { _ in random.next() }
            try await recorder.record(cluster, seeds: seeds) {
                // Each fault once, then as chance will have it.
                let faults = Fault.allCases.shuffled(using: &random)
                for round in 1...rounds {
                    try await recorder.moreAnswers(150)
                    let fault =
                        round <= faults.count
                        ? faults[round - 1] : faults[Int.random(in: faults.indices, using: &random)]
                    try await inflict(fault, on: cluster, recorder, &random)
                    report("history: round \(round), \(fault.rawValue), \(recorder.count(.ok)) answers")
                }
                try await recorder.moreAnswers(150)
            }
        }

        private enum Fault: String, CaseIterable {
            case killLeader = "the leader was killed"
            case killTwo = "two nodes were killed"
            case pauseLeader = "the leader was paused"
            case pauseFollower = "a follower was paused, and leadership transferred"
            case transfer = "leadership was transferred"
        }

        private func inflict(
            _ fault: Fault,
            on cluster: Cluster,
            _ recorder: HistoryRecorder,
            _ random: inout SeededGenerator
        ) async throws {
            let leader = try await cluster.leader()
            let others = cluster.others(than: leader).shuffled(using: &random)
            switch fault {
            case .killLeader:
                await leader.crash()
                try await recorder.moreAnswers(100)
                try leader.start()
            case .killTwo:
                await leader.crash()
                await others[0].crash()
                let asked = recorder.count(.invoke)
                try await eventually("a node alone is asked") { recorder.count(.invoke) > asked + 30 }
                for node in [leader, others[0]].shuffled(using: &random) { try node.start() }
            case .pauseLeader:
                leader.pause()
                defer { leader.resume() }
                // Its clients time out; the others elect one among them, which the paused one does not learn before it
                // goes on.
                _ = try await cluster.leader(among: others)
                try await recorder.moreAnswers(100)
            case .pauseFollower:
                others[0].pause()
                defer { others[0].resume() }
                try? await leader.client.transferLeadership(to: others[1].name)
                try await recorder.moreAnswers(100)
            case .transfer:
                try? await leader.client.transferLeadership(to: others[0].name)
            }
            try await cluster.allReady()
        }

        private func check(_ events: [HistoryEvent], _ seed: UInt64) async throws {
            let text = events.map(\.line).joined()
            let verdict = try HistoryFormat.kontiki.check(Array(text.utf8))
            if verdict.verdict != .linearizable {
                // Kept, for it may not come again.
                let name = "kontiki-history-\(seed).ndjson"
                let path = FileManager.default.temporaryDirectory.appendingPathComponent(name)
                try Data(text.utf8).write(to: path)
                report("history: the bad one is kept: kontiki verify \(path.path)")
            }
            #expect(verdict.verdict == .linearizable, "\(verdict.offences.map(\.lines)) \(verdict.undecidedKeys)")
            let (ending, output) = try await verify(text)
            #expect(ending == .exited(0), "\(output)")
            #expect(output.contains(": linearizable (\(verdict.operations) operations, \(verdict.keys) keys)"))
        }

        /// The recorded history with one answer replaced must be refused, or else the check above proves nothing.
        private func checkForgery(_ events: [HistoryEvent]) async throws {
            let forged = try #require(Self.forge(events), "no read in the history could be made stale")
            let (ending, output) = try await verify(forged.text)
            #expect(ending == .exited(1), "\(output)")
            #expect(output.contains("NOT linearizable") && output.contains(": key “\(forged.key)”\n"), "\(output)")
            report("history: with a stale read it is refused:\n" + output)
            #expect(output.split(separator: "\n").count < 15, "the part that is shown is short")
        }

        /// Gives the last possible read the answer that was true before an acknowledged write that it came after.
        private static func forge(_ events: [HistoryEvent]) -> (key: String, text: String)? {
            var begun: [Int: Int] = [:]
            var starts: [Int: Int] = [:]
            for (index, event) in events.enumerated() {
                if event.kind == .invoke { begun[event.process] = index } else { starts[index] = begun[event.process] }
            }
            func isWrite(_ index: Int, _ key: String) -> Bool {
                let event = events[index]
                return event.kind == .ok && event.key == key && event.revision != nil && event.function != "get"
            }
            for read in events.indices.reversed()
            where events[read].kind == .ok && events[read].function == "get" && events[read].value != nil {
                let key = events[read].key
                guard let readStart = starts[read],
                    let new = (0..<readStart).last(where: { isWrite($0, key) }), let newStart = starts[new],
                    let old = (0..<newStart).last(where: { isWrite($0, key) }), let oldStart = starts[old],
                    events[old].revision != events[read].revision, let value = events[oldStart].value
                else { continue }
                var forged = events
                forged[read].value = value
                forged[read].revision = events[old].revision
                return (key, forged.map(\.line).joined())
            }
            return nil
        }

        private func verify(_ text: String) async throws -> (ending: Ending, output: String) {
            try await withTemporaryDirectory { directory in
                let path = directory + "/history.ndjson"
                try Data(text.utf8).write(to: URL(fileURLWithPath: path))
                return try await ChildProcess.run(Binary.path(), ["verify", path])
            }
        }
    }
}

import Foundation
import KontikiClient
import Synchronization
import Testing

extension EndToEndTests {
    @Suite("What errors say of the outcome") struct Outcomes {
        @Test(
            "Killed, paused, cut off and timed out at any stage: what was said to be executed was, once; what was not was not",
            .timeLimit(.minutes(5))
        )
        func outcomes() async throws {
            let seed = UInt64.random(in: 1...1 << 40)
            report("outcomes: seed \(seed)")
            try await Cluster.run(proxied: true, options: ["--request-timeout", "1s"]) { cluster in
                let book = Book()
                var random = SeededGenerator(seed: seed)
                let seeds = (0..<8).map { _ in random.next() }
                try await withThrowingTaskGroup { group in
                    for (asker, seed) in seeds.enumerated() {
                        group.addTask {
                            var random = SeededGenerator(seed: seed)
                            var number = 0
                            while !book.isOver {
                                number += 1
                                try await Self.ask(cluster, "outcome/\(asker)/\(number)", book, &random)
                            }
                        }
                    }
                    defer { book.end() }
                    for fault in Fault.allCases + Fault.allCases.shuffled(using: &random) {
                        try await more(60, book)
                        try await inflict(fault, on: cluster, book)
                        try await cluster.allReady()
                    }
                    try await more(60, book)
                    try await eventually("there is enough to judge", within: .seconds(120)) {
                        book.answers.count { $0.1 == .executed } > 200
                            && book.answers.count { $0.1 == .notExecuted } > 20
                    }
                    book.end()
                    try await group.waitForAll()
                }
                try await check(cluster, book)
            }
        }

        private enum Fault: CaseIterable { case killLeader, killFollower, pauseLeader, isolateLeader, transfer }

        private func inflict(_ fault: Fault, on cluster: Cluster, _ book: Book) async throws {
            let leader = try await cluster.leader()
            let follower = cluster.others(than: leader)[0]
            switch fault {
            case .killLeader:
                await leader.crash()
                try await more(30, book)
                try leader.start()
            case .killFollower:
                await follower.crash()
                try await more(30, book)
                try follower.start()
            case .pauseLeader:
                leader.pause()
                defer { leader.resume() }
                try await more(30, book)
            case .isolateLeader:
                cluster.network?.isolate(leader.name)
                defer { cluster.network?.heal() }
                try await more(30, book)
            case .transfer:
                try? await leader.client.transferLeadership(to: follower.name)
            }
        }

        private func more(_ count: Int, _ book: Book) async throws {
            let before = book.count
            try await eventually("\(count) more requests end", within: .seconds(90)) { book.count > before + count }
        }

        /// One request that makes `key`, or is refused.
        private static func ask(
            _ cluster: Cluster,
            _ key: String,
            _ book: Book,
            _ random: inout SeededGenerator
        ) async throws {
            let base = cluster.nodes[Int.random(in: 0..<3, using: &random)].endpoint
            // Half of them give up at any stage.
            let timeout =
                Bool.random(using: &random) ? "timeout=\(Int.random(in: 1...60, using: &random))ms" : "timeout=1s"
            let arguments: [String]
            switch Int.random(in: 0..<5, using: &random) {
            case 0: arguments = ["-X", "PUT", "-d", "v", "\(base)/kv/\(key)?\(timeout)"]
            case 1: arguments = ["-X", "PUT", "-d", "v", "-H", "If-None-Match: *", "\(base)/kv/\(key)?\(timeout)"]
            case 2: arguments = ["-X", "PUT", "-d", "v", "-H", "If-Match: \"1\"", "\(base)/kv/\(key)?\(timeout)"]
            case 3: arguments = ["-X", "POST", "\(base)/kv/\(key)?op=incr&\(timeout)"]
            default:
                let document = #"{"compare":[],"success":[{"put":{"key":"\#(key)","value":"v"}}],"failure":[]}"#
                arguments = ["-d", document, "\(base)/txn?\(timeout)"]
            }
            let curl = try await ChildProcess.run(
                "/usr/bin/curl",
                ["-sS", "--max-time", "3", "-w", "\nstatus %{http_code}\n"] + arguments
            )
            book.note(key, Outcome(curl.output))
        }

        /// What an answer says of the request.
        private enum Outcome: String {
            case executed, notExecuted, unknown

            init(_ output: String) {
                if output.contains("\nstatus 20") || output.contains(#""outcome":"executed""#) {
                    self = .executed
                } else if output.contains(#""outcome":"not_executed""#) {
                    self = .notExecuted
                } else {
                    // Unknown, or no answer at all: the node went while it was asked.
                    self = .unknown
                }
            }
        }

        private func check(_ cluster: Cluster, _ book: Book) async throws {
            // What was really done, by the store's own account of every change.
            let end = try await cluster.client.put("outcome/end", [1]).revision
            var done: [String: Int] = [:]
            try await cluster.nodes[0].client.watch(.prefix("outcome/"), since: 0) { event in
                if event.kind == .put { done[event.key.description, default: 0] += 1 }
                return event.revision < end
            }
            let answers = book.answers
            var counts: [String: Int] = [:]
            for (key, outcome) in answers {
                let times = done[key] ?? 0
                counts[outcome.rawValue + (times > 0 ? ", done" : ", not done"), default: 0] += 1
                switch outcome {
                case .executed: #expect(times == 1, "\(key) was said to be executed, and was \(times) times")
                case .notExecuted: #expect(times == 0, "\(key) was said not to be executed, and was \(times) times")
                case .unknown: #expect(times <= 1, "\(key) was executed \(times) times")
                }
            }
            report("outcomes: \(counts.sorted { $0.key < $1.key })")
            #expect(counts.keys.contains { $0.hasPrefix("unknown") })
        }

        /// What was asked, and what was answered.
        private final class Book: Sendable {
            private struct State {
                var answers: [(String, Outcome)] = []
                var isOver = false
            }

            private let state = Mutex(State())

            var answers: [(String, Outcome)] { state.withLock { $0.answers } }
            var count: Int { state.withLock { $0.answers.count } }
            var isOver: Bool { state.withLock { $0.isOver } }

            func note(_ key: String, _ outcome: Outcome) { state.withLock { $0.answers.append((key, outcome)) } }
            func end() { state.withLock { $0.isOver = true } }
        }
    }
}

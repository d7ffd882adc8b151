import Foundation
import KontikiClient
import Testing

extension EndToEndTests.KeepAlive {
    @Suite("The command of kontiki lock") struct Commands {
        private typealias Reaction = StandInNode.Reaction

        private static let granted = #"{"name":"job","token":7,"lease":"abc","revision":1}"#
        private static let kept = Reaction.answer(200, #"{"id":"abc","ttl":"15s","remaining":"15s"}"#)
        private static let none = Reaction.answer(404, #"{"title":"no such lease","outcome":"not_executed"}"#)

        /// Runs kontiki against a stand-in with a command that leaves a file behind; answers whether it was started.
        ///
        /// - Parameter isEndless: the command ends only when it is told to.
        private func run(
            _ arguments: [String],
            isEndless: Bool = false,
            _ reaction: @escaping @Sendable (StandInNode.Request, Int) -> Reaction
        ) async throws -> (ending: Ending, output: String, hasRun: Bool, requests: [StandInNode.Request]) {
            try await withTemporaryDirectory { directory in
                let node = try await StandInNode(reaction)
                let rest = isEndless ? "; trap 'exit 0' TERM; while :; do sleep 0.05; done" : ""
                let run = try await ChildProcess.run(
                    Binary.path(),
                    arguments + ["--endpoint", node.endpoint, "--", "sh", "-c", "touch \(directory)/ran\(rest)"]
                )
                let hasRun = FileManager.default.fileExists(atPath: directory + "/ran")
                await node.stop()
                return (run.ending, run.output, hasRun, node.requests)
            }
        }

        @Test("It is not started when the lease has ended before its grant was known", .timeLimit(.minutes(2)))
        func ended() async throws {
            for isLate in [true, false] {
                let run = try await run(["lock", "job", "--ttl", "1s"]) { request, _ in
                    switch request.method {
                    // Beyond the lease's time, so that somebody else may have the lock by now.
                    case "POST": isLate ? .late(.milliseconds(1500), 200, Self.granted) : .answer(200, Self.granted)
                    case "PUT": Self.none
                    default: .answer(204)
                    }
                }
                #expect(run.ending == .exited(75) && !run.hasRun, "\(run.output)")
                #expect(run.output.contains("lost before the command could start"), "\(run.output)")
                #expect(run.requests.map(\.method) == ["POST", "PUT", "DELETE"])
            }
        }

        @Test("It is not started while no node confirms that the lease lives", .timeLimit(.minutes(2)))
        func unconfirmed() async throws {
            let run = try await run(["lock", "job", "--ttl", "1s", "--timeout", "3s"]) { request, _ in
                switch request.method {
                case "POST": .answer(200, Self.granted)
                case "PUT": .silence
                default: .answer(204)
                }
            }
            #expect(run.ending != .exited(0) && !run.hasRun, "\(run.output)")
        }

        @Test(
            "It is not started when the confirmation was on its way for longer than the lease lasts",
            .timeLimit(.minutes(2))
        )
        func confirmedTooLate() async throws {
            // Two nodes, so that an attempt has time enough; each answers after more than the lease's time.
            let run = try await run(["lock", "job", "--ttl", "1s", "--timeout", "20s"]) { request, _ in
                switch request.method {
                case "POST": .answer(200, Self.granted)
                case "PUT": .late(.milliseconds(1200), 200, #"{"id":"abc","ttl":"1s","remaining":"1s"}"#)
                default: .answer(204)
                }
            }
            #expect(run.ending == .exited(75) && !run.hasRun, "\(run.output)")
        }

        @Test(
            "It is told to stop when the time is over within which nobody confirmed the lease again",
            .timeLimit(.minutes(2))
        )
        func stopped() async throws {
            // Confirmed once, with an answer that took a part of the time; never again.
            let run = try await run(["lock", "job", "--ttl", "3s"], isEndless: true) { request, before in
                switch request.method {
                case "POST": .answer(200, Self.granted)
                case "PUT" where before == 1:
                    .late(.milliseconds(500), 200, #"{"id":"abc","ttl":"3s","remaining":"3s"}"#)
                case "PUT": .silence
                default: .answer(204)
                }
            }
            #expect(run.hasRun && run.ending == .exited(75), "\(run.output)")
            #expect(run.output.contains("is lost; the command is told to stop"), "\(run.output)")
        }

        @Test("Who loses an election before the command starts stands again", .timeLimit(.minutes(2)))
        func election() async throws {
            let run = try await run(["elect", "job", "--ttl", "10s", "--value", "me"]) { request, before in
                switch request.method {
                case "POST": .answer(200, Self.granted)
                // The lease of the first grant has ended.
                case "PUT": before < 3 ? Self.none : Self.kept
                default: .answer(204)
                }
            }
            #expect(run.ending == .exited(0) && run.hasRun, "\(run.output)")
            #expect(run.requests.map(\.method) == ["POST", "PUT", "DELETE", "POST", "PUT", "DELETE"])
        }
    }
}

import Foundation
import KontikiClient
import Synchronization
import Testing

extension EndToEndTests {
    @Suite("What keeps leases and locks over failing nodes") struct KeepAlive {
        private typealias Reaction = StandInNode.Reaction

        private static let lease = LeaseID(0xABC)
        private static let kept = Reaction.answer(200, #"{"id":"abc","ttl":"15s","remaining":"15s"}"#)
        private static let none = Reaction.answer(404, #"{"title":"no such lease","outcome":"not_executed"}"#)

        /// Runs `body` with a client of stand-ins, which it asks in this order.
        private func withNodes(
            _ reactions: [@Sendable (StandInNode.Request, Int) -> Reaction],
            _ adjust: (inout KontikiClient.Options) -> Void = { _ in },
            _ body: (KontikiClient, [StandInNode]) async throws -> Void
        ) async throws {
            var nodes: [StandInNode] = []
            for reaction in reactions { nodes.append(try await StandInNode(reaction)) }
            var options = KontikiClient.Options()
            // A machine that stands still for a moment is not a node that is silent.
            (options.attemptTimeout, options.totalTimeout) = (.seconds(3600), .seconds(3600))
            adjust(&options)
            let client = try KontikiClient(endpoints: nodes.map(\.endpoint), options: options)
            do {
                try await body(client, nodes)
            } catch {
                await client.shutdown()
                throw error
            }
            await client.shutdown()
            for node in nodes { await node.stop() }
        }

        @Test("A keep-alive that was lost with its node is repeated at the next, with and without idempotency keys")
        func keepAliveIsRepeated() async throws {
            for isExactlyOnce in [true, false] {
                try await withNodes([{ _, _ in .hangUp }, { _, _ in Self.kept }]) {
                    $0.isExactlyOnce = isExactlyOnce
                } _: { client, nodes in
                    let lease = try await client.keepAlive(Self.lease, time: .seconds(3600))
                    #expect(lease?.time == .seconds(15))
                    for node in nodes { #expect(node.requests.map(\.method) == ["PUT"]) }
                }
            }
        }

        @Test("A lease's end and a lock's release are repeated under the key that they were first asked with")
        func endsAreRepeated() async throws {
            try await withNodes([
                { _, before in before < 2 ? .hangUp : Self.none }, { _, _ in .answer(204) },
            ]) { client, nodes in
                let wasThere = try await client.revoke(Self.lease)
                // One that begins with the first node again.
                let other = try KontikiClient(endpoints: nodes.map(\.endpoint))
                let wasHeld = try await other.releaseLock("job", token: 7)
                await other.shutdown()
                #expect(wasThere && wasHeld)
                #expect(nodes[0].requests == nodes[1].requests)
                let targets = nodes[0].requests.map { $0.method + " " + $0.target }
                #expect(targets == ["DELETE /leases/0000000000000abc", "DELETE /locks/job?token=7"])
                #expect(Set(nodes[0].requests.map(\.idempotencyKey)).count == 2)
                #expect(!nodes[0].requests.map(\.idempotencyKey).contains(nil))
            }
        }

        @Test("Without keys, what is gone behind an attempt of unknown outcome was ended; what was gone before was not")
        func endsWithoutKeys() async throws {
            for (status, isDoubtful) in [(404, true), (404, false), (412, true), (412, false)] {
                let gone = Reaction.answer(status, #"{"title":"not held","outcome":"not_executed"}"#)
                try await withNodes([{ _, _ in isDoubtful ? .hangUp : gone }, { _, _ in gone }]) {
                    $0.isExactlyOnce = false
                } _: { client, nodes in
                    let wasHeld = try await client.releaseLock("job", token: 7)
                    #expect(wasHeld == isDoubtful)
                    #expect(nodes[1].requests.count == (isDoubtful ? 1 : 0))
                    #expect(nodes.flatMap(\.requests).allSatisfy { $0.idempotencyKey == nil })
                }
            }
            try await withNodes([{ _, _ in .hangUp }, { _, _ in Self.none }]) {
                $0.isExactlyOnce = false
            } _: { client, _ in
                let wasThere = try await client.revoke(Self.lease)
                #expect(wasThere)
            }
        }

        @Test(
            "A silent node is left before the lease can end, whatever an attempt may take else",
            .timeLimit(.minutes(2))
        )
        func silentNode() async throws {
            for time in [Duration.seconds(3), nil] {
                // On a slow machine the first attempt may be over before its node hears of it.
                var isAsked = false
                for _ in 0..<5 where !isAsked {
                    try await withNodes([{ _, _ in .silence }, { _, _ in Self.kept }, { _, _ in .silence }]) {
                        client,
                        nodes in
                        let kept = try await client.keepAlive(Self.lease, time: time)
                        #expect(kept != nil)
                        isAsked = nodes[0].requests.count >= 1
                    }
                }
                #expect(isAsked)
            }
        }

        @Test("What is left of a lease bounds the attempts to keep it", .timeLimit(.minutes(2)))
        func limit() async throws {
            try await withNodes([{ _, _ in .silence }]) { client, _ in
                await #expect(throws: ClientError.self) {
                    try await client.keepAlive(Self.lease, time: .seconds(3600), within: .milliseconds(100))
                }
            }
        }

        @Test("kontiki lease keep-alive goes on over nodes that fail, until one says that there is no such lease")
        func keepAliveCommand() async throws {
            let node = try await StandInNode { _, before in
                switch before {
                case 0, 3: .hangUp
                // Of something that stands in front of a node.
                case 1, 4: .answer(502, "<html>")
                case 2: .answer(200, #"{"id":"abc","ttl":"1s","remaining":"1s"}"#)
                case 5: .answer(507, #"{"title":"full","outcome":"not_executed"}"#)
                default: Self.none
                }
            }
            let run = try await ChildProcess.run(
                Binary.path(),
                ["lease", "keep-alive", "abc", "--endpoint", node.endpoint]
            )
            #expect(run.ending == .exited(1), "\(run.output)")
            #expect(run.output.contains("could not be kept alive") && run.output.contains("it has ended"))
            #expect(node.requests.count >= 7, "\(run.output)")
            let once = try await StandInNode { _, _ in .answer(502, "<html>") }
            let failed = try await ChildProcess.run(
                Binary.path(),
                ["lease", "keep-alive", "abc", "--once", "--endpoint", once.endpoint]
            )
            #expect(failed.ending == .exited(75), "\(failed.output)")
            for node in [node, once] { await node.stop() }
        }

        @Test("kontiki lock keeps its lock when the node that granted it falls silent", .timeLimit(.minutes(3)))
        func lockCommand() async throws {
            try await withTemporaryDirectory { directory in
                let granted = #"{"name":"job","token":7,"lease":"abc","revision":1}"#
                let first = try await StandInNode { request, _ in
                    request.method == "POST" ? .answer(200, granted) : .silence
                }
                // The command runs until the lock was kept by the second node.
                let second = try await StandInNode { request, _ in
                    guard request.method == "PUT" else { return .answer(204) }
                    _ = FileManager.default.createFile(atPath: directory + "/kept", contents: nil)
                    return Self.kept
                }
                let run = try await ChildProcess.run(
                    Binary.path(),
                    [
                        "lock", "job", "--ttl", "60s", "--endpoint", first.endpoint, "--endpoint", second.endpoint,
                        "--", "sh", "-c",
                        "until [ -e \(directory)/kept ]; do sleep 0.1; done",
                    ]
                )
                #expect(run.ending == .exited(0), "\(run.output)")
                #expect(Set(second.requests.map(\.method)) == ["PUT", "DELETE"])
                for node in [first, second] { await node.stop() }
            }
        }
    }
}

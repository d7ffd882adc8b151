import Foundation
import KontikiClient
import Synchronization
import Testing

extension EndToEndTests {
    @Suite("Watches") struct Watches {
        @Test("Under churn, while leaders are killed, every watcher that resumes sees the history of the store")
        func churn() async throws {
            try await Cluster.run(options: ["--request-timeout", "2s"]) { cluster in
                let watchers = try cluster.nodes.indices.map { try Watcher(cluster, first: $0) }
                let churn = Churning()
                var end: UInt64 = 0
                try await withThrowingTaskGroup { group in
                    for watcher in watchers { group.addTask { try await watcher.run() } }
                    for process in 0..<3 {
                        group.addTask {
                            var random = SeededGenerator(seed: UInt64(process) + 7)
                            var number = 0
                            while !churn.isOver {
                                number += 1
                                await Self.change(cluster, process, number, &random)
                            }
                        }
                    }
                    defer { churn.end() }
                    for _ in 1...4 {
                        let before = watchers.map(\.count)
                        try await eventually("every watcher sees more", within: .seconds(60)) {
                            zip(watchers, before).allSatisfy { $0.count > $1 + 150 }
                        }
                        let leader = try await cluster.leader()
                        await leader.crash()
                        let then = watchers.map(\.count)
                        try await eventually("every watcher goes on without the leader", within: .seconds(60)) {
                            zip(watchers, then).allSatisfy { $0.count > $1 + 50 }
                        }
                        try leader.start()
                        try await cluster.allReady()
                    }
                    churn.end()
                    // One last write that all are to see. What was asked for before may come about behind it, for some to see.
                    end = try await patiently {
                        try await cluster.client.put("watched/end", Array("end".utf8)).revision
                    }
                    try await eventually("every watcher sees the end", within: .seconds(60)) {
                        watchers.allSatisfy { $0.last >= end }
                    }
                    group.cancelAll()
                    while let result = await group.nextResult() {
                        if case .failure(let error) = result, !(error is CancellationError) {
                            guard (error as? ClientError)?.code == .cancelled else { throw error }
                        }
                    }
                }
                try await check(cluster, watchers, through: end)
            }
        }

        private static func change(
            _ cluster: Cluster,
            _ process: Int,
            _ number: Int,
            _ random: inout SeededGenerator
        ) async {
            let key = Key("watched/\(Int.random(in: 0..<20, using: &random))")
            let client = cluster.nodes[Int.random(in: 0..<3, using: &random)].client
            // What fails is as good: it is in the history or not, and the watchers must see the same.
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<6: _ = try? await client.put(key, Array("\(process).\(number)".utf8))
            case 6..<8: try? await client.delete(key)
            case 8: _ = try? await client.delete(prefix: "watched/1")
            default:
                let document = """
                    {"compare":[],"success":[{"put":{"key":"watched/a","value":"\(process).\(number)"}},
                    {"put":{"key":"watched/b","value":"\(process).\(number)"}}],"failure":[]}
                    """
                _ = try? await client.transaction(Array(document.utf8))
            }
        }

        /// Up to the revision `end` each saw the same, each revision once and in order, and what the events add up to is what the store held.
        private func check(_ cluster: Cluster, _ watchers: [Watcher], through end: UInt64) async throws {
            let reference = watchers[0].events(through: end)
            report("watch: \(reference.count) events, \(watchers.count) watchers")
            for watcher in watchers.dropFirst() {
                #expect(watcher.events(through: end) == reference)
            }
            var state: [Key: [UInt8]] = [:]
            var last: (revision: UInt64, key: Key) = (0, "")
            for event in reference {
                #expect(last.revision < event.revision || last.revision == event.revision && last.key < event.key)
                last = (event.revision, event.key)
                state[event.key] = event.kind == .put ? event.value : nil
            }
            #expect(last.revision == end)
            let listed = try await Listing.all(cluster.client, prefix: "watched/", revision: end)
            #expect(listed.count == state.count)
            for (key, value) in listed { #expect(state[Key(key)] == value) }
            // The store's own account of it, from one node, in one piece.
            for node in cluster.nodes {
                var account: [Event] = []
                try await node.client.watch(.prefix("watched/"), since: 0) { event in
                    account.append(Event(event))
                    return event.revision < end
                }
                #expect(account == reference, "\(node.name)")
            }
        }

        private final class Churning: Sendable {
            private let ended = Mutex(false)

            var isOver: Bool { ended.withLock { $0 } }
            func end() { ended.withLock { $0 = true } }
        }

        struct Event: Equatable, Sendable {
            var revision: UInt64
            var kind: KontikiClient.WatchEvent.Kind
            var key: Key
            var value: [UInt8]

            init(_ event: KontikiClient.WatchEvent) {
                (revision, kind, key, value) = (event.revision, event.kind, event.key, event.value)
            }
        }

        /// Follows the changes from the first on, at one node after the other.
        private final class Watcher: Sendable {
            private let seen = Mutex<[Event]>([])
            private let client: KontikiClient

            init(_ cluster: Cluster, first: Int) throws {
                var endpoints = cluster.nodes.map(\.endpoint)
                endpoints = Array(endpoints[first...] + endpoints[..<first])
                var options = KontikiClient.Options()
                options.watchSilence = .seconds(10)
                client = try KontikiClient(endpoints: endpoints, options: options)
            }

            func events(through end: UInt64) -> [Event] { seen.withLock { $0.filter { $0.revision <= end } } }
            var count: Int { seen.withLock { $0.count } }
            var last: UInt64 { seen.withLock { $0.last?.revision ?? 0 } }

            func run() async throws {
                try await client.watch(.prefix("watched/"), since: 0) { event in
                    self.seen.withLock { $0.append(Event(event)) }
                    return true
                }
            }
        }
    }
}

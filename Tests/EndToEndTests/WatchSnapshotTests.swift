import Foundation
import KontikiClient
import Synchronization
import Testing

extension EndToEndTests {
    @Suite("Watches across a snapshot") struct WatchesAcrossSnapshots {
        private typealias Event = Watches.Event

        private final class Seen: Sendable {
            private let list = Mutex<[Event]>([])

            var events: [Event] { list.withLock { $0 } }
            func add(_ event: Event) { list.withLock { $0.append(event) } }
        }

        private static let bounds = [
            "--snapshot-log-bytes", "256k", "--trailing-log-bytes", "64k", "--memtable-bytes", "128k",
        ]

        @Test(
            "A follower that was cut off gets a snapshot: a watch that goes on there, and those that resume there, see all",
            .timeLimit(.minutes(4))
        )
        func complete() async throws {
            try await Cluster.run(proxied: true, options: Self.bounds) { cluster in
                let network = try #require(cluster.network)
                let away = cluster.others(than: try await cluster.leader())[0]
                let middle = try await Self.change(cluster.client, 1...40)
                let seen = Seen()
                let watcher = Task {
                    try await away.client.watch(.prefix("seen/"), since: 0) { event in
                        seen.add(Event(event))
                        return event.key != "seen/end"
                    }
                }
                defer { watcher.cancel() }
                try await eventually("the watcher has seen the first changes") {
                    seen.events.last?.revision == middle
                }
                let lastSeen = try await away.client.status().lastIndex
                network.isolate(away.name)
                try await Self.leaveBehind(cluster, away, lastSeen)
                network.heal()
                try await Self.snapshotCame(away)
                let end = try await patiently {
                    try await cluster.client.put("seen/end", []).revision
                }
                try await watcher.value
                let account = try await Self.events(cluster.others(than: away)[0], since: 0)
                #expect(account.last?.revision == end)
                #expect(seen.events == account)
                for since in [0, account[10].revision, middle, account[account.count - 5].revision] {
                    let resumed = try await Self.events(away, since: since)
                    #expect(resumed == account.filter { $0.revision > since }, "since \(since)")
                }
            }
        }

        @Test(
            "When the snapshot's past does not reach back so far, a watch that resumes is told so, and goes on from a listing",
            .timeLimit(.minutes(4))
        )
        func compacted() async throws {
            try await Cluster.run(options: Self.bounds + ["--history-events", "200"]) { cluster in
                let away = cluster.others(than: try await cluster.leader())[0]
                let middle = try await Self.change(cluster.client, 1...40)
                let lastSeen = try await away.client.status().lastIndex
                await away.crash()
                try await Self.leaveBehind(cluster, away, lastSeen)
                try away.start()
                try await Self.snapshotCame(away)
                for node in cluster.nodes {
                    #expect(await Self.refusal(node, since: middle) == .compacted, "\(node.name)")
                }
                let page = try await patiently {
                    try await away.client.list(prefix: "seen/", limit: 500)
                }
                #expect(page.cursor == nil)
                var state = Dictionary(uniqueKeysWithValues: page.items.map { ($0.key.description, $0.value) })
                _ = try await Self.change(cluster.client, 201...240)
                try await cluster.client.put("seen/end", [])
                for event in try await Self.events(away, since: page.revision) {
                    state[event.key.description] = event.kind == .put ? event.value : nil
                }
                #expect(try await Listing.all(cluster.client, prefix: "seen/") == state)
            }
        }

        /// Why a watch from a revision on is refused; nil when it is not.
        private static func refusal(_ node: NodeProcess, since: UInt64) async -> ClientError.Code? {
            do {
                _ = try await events(node, since: since)
                return nil
            } catch {
                return (error as? ClientError)?.code
            }
        }

        /// Puts and deletes of a few keys; returns the last revision.
        private static func change(_ client: KontikiClient, _ numbers: ClosedRange<Int>) async throws -> UInt64 {
            for number in numbers {
                let key = Key("seen/\(number % 7)")
                if number % 5 == 0 {
                    try await patiently { try await client.delete(key) }
                }
                try await put(client, key, number)
            }
            return try await put(client, "seen/last", numbers.upperBound)
        }

        @discardableResult
        private static func put(_ client: KontikiClient, _ key: Key, _ number: Int) async throws -> UInt64 {
            try await patiently {
                try await client.put(key, Array("\(number)".utf8)).revision
            }
        }

        /// Changes so much without `away` that the others' logs do not reach back to what it has.
        private static func leaveBehind(_ cluster: Cluster, _ away: NodeProcess, _ lastSeen: UInt64) async throws {
            let others = cluster.others(than: away)
            var options = KontikiClient.Options()
            options.totalTimeout = .seconds(30)
            let client = try KontikiClient(endpoints: others.map(\.endpoint), options: options)
            do {
                _ = try await change(client, 41...100)
                try await Filling.write(client, prefix: "fill", keys: 500, times: 1_500, bytes: 1_000)
                _ = try await change(client, 101...200)
                try await cluster.logsBegin(behind: lastSeen, on: others)
            } catch {
                await client.shutdown()
                throw error
            }
            await client.shutdown()
        }

        private static func snapshotCame(_ node: NodeProcess) async throws {
            try await eventually("\(node.name) has received a snapshot", within: .seconds(60)) {
                node.log.contains("receiving a snapshot")
            }
            try await eventually("\(node.name) serves", within: .seconds(60)) { await node.isReady() }
        }

        /// What one node tells of the changes behind a revision, up to the last one.
        private static func events(_ node: NodeProcess, since: UInt64) async throws -> [Event] {
            var events: [Event] = []
            try await node.client.watch(.prefix("seen/"), since: since) { event in
                events.append(Event(event))
                return event.key != "seen/end"
            }
            return events
        }
    }
}

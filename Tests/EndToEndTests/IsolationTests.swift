import Foundation
import KontikiClient
import Synchronization
import Testing

extension EndToEndTests {
    @Suite("Cut lines and changing leaders") struct Isolation {
        @Test(
            "A leader that is cut off refuses strong reads and writes with a true outcome, reads stale, steps down and catches up",
            .timeLimit(.minutes(3))
        )
        func isolatedLeader() async throws {
            try await Cluster.run(proxied: true, options: ["--request-timeout", "1s"]) { cluster in
                let network = try #require(cluster.network)
                let old = try await cluster.leader()
                try await cluster.client.put("isolation", Array("before".utf8))
                network.isolate(old.name)

                // Until it has noticed it still takes writes in, and must then say that their outcome is unknown.
                var refusals: [ClientError] = []
                var staleReads: [Duration] = []
                for number in 1...4 {
                    do throws(ClientError) {
                        try await old.client.put(Key("isolated/\(number)"), Array("never".utf8))
                        Issue.record("a write was acknowledged by a leader without a quorum")
                    } catch {
                        refusals.append(error)
                    }
                    do throws(ClientError) {
                        _ = try await old.client.get("isolation")
                        Issue.record("a strong read was answered by a leader without a quorum")
                    } catch {
                        #expect([503, 504].contains(error.status), "\(error)")
                    }
                    let start = ContinuousClock.now
                    #expect(try await old.client.get("isolation", consistency: .stale)?.value == Array("before".utf8))
                    staleReads.append(ContinuousClock.now - start)
                }
                // Each other request took a second; a busy machine may be late with some.
                #expect(
                    staleReads.contains { $0 < .milliseconds(500) },
                    "a stale read is answered at once: \(staleReads)"
                )
                for error in refusals { #expect([503, 504].contains(error.status), "\(error)") }
                try await eventually("the one that was cut off steps down") { await old.status()?.role != "leader" }

                try await eventually("the others take a write") {
                    let new = try await cluster.leader(among: cluster.others(than: old))
                    return (try? await new.client.put("isolation", Array("after".utf8))) != nil
                }
                #expect(try await old.client.get("isolation", consistency: .stale)?.value == Array("before".utf8))

                network.heal()
                try await eventually("the old leader has caught up") {
                    (try? await old.client.get("isolation"))?.value == Array("after".utf8)
                }
                // What was said not to be executed is nowhere.
                for (number, error) in refusals.enumerated() where error.outcome == .notExecuted {
                    #expect(try await cluster.client.get(Key("isolated/\(number + 1)")) == nil)
                }
                #expect(try await cluster.client.members().count == 3)
            }
        }

        @Test("Strong reads never go back, at any node, while leaders change", .timeLimit(.minutes(3)))
        func strongMeansStrong() async throws {
            try await Cluster.run(options: ["--request-timeout", "2s"]) { cluster in
                let floor = Floor()
                try await withThrowingTaskGroup { group in
                    group.addTask { await floor.write(cluster.client) }
                    for node in cluster.nodes {
                        for _ in 0..<3 { group.addTask { await floor.read(node.client, node.name) } }
                    }
                    defer { floor.stop() }
                    for change in 1...6 {
                        let reads = floor.reads
                        try await eventually("reads go on", within: .seconds(60)) { floor.reads > reads + 200 }
                        let leader = try await cluster.leader()
                        if change % 2 == 0 {
                            await leader.crash()
                            try leader.start()
                            try await cluster.allReady()
                        } else {
                            // It fails where another one was elected just before.
                            try? await cluster.client.transferLeadership(to: cluster.others(than: leader)[0].name)
                        }
                    }
                    let writes = floor.value
                    try await eventually("writes go on", within: .seconds(60)) { floor.value > writes }
                    floor.stop()
                }
                report("strong means strong: \(floor.reads) strong reads, the counter reached \(floor.value)")
            }
        }
    }
}

/// A counter in the cluster that only grows, and the least value that a strong read which begins now must see.
private final class Floor: Sendable {
    private let floor = Mutex(0)
    private let count = Mutex(0)
    private let isStopped = Mutex(false)

    var value: Int { floor.withLock { $0 } }
    var reads: Int { count.withLock { $0 } }

    func stop() { isStopped.withLock { $0 = true } }

    private func raise(to value: Int) { floor.withLock { $0 = max($0, value) } }

    /// Each write depends on the revision before it: one whose outcome is unknown cannot take effect late, behind a later one.
    func write(_ client: KontikiClient) async {
        var next = 1
        while !isStopped.withLock({ $0 }) {
            do {
                let item = try await client.get("counter")
                if let item, let present = Int(String(decoding: item.value, as: UTF8.self)) { next = present + 1 }
                try await client.put(
                    "counter",
                    Array("\(next)".utf8),
                    condition: item.map { .revision($0.modifyRevision) } ?? .absent
                )
                raise(to: next)
            } catch {
                // The next read tells what became of it.
            }
        }
    }

    func read(_ client: KontikiClient, _ name: String) async {
        while !isStopped.withLock({ $0 }) {
            let least = value
            do {
                let item = try await client.get("counter")
                let seen = item.flatMap { Int(String(decoding: $0.value, as: UTF8.self)) } ?? 0
                #expect(seen >= least, "a strong read at \(name) went back")
                raise(to: seen)
                count.withLock { $0 += 1 }
            } catch {
                try? await Task.sleep(for: .milliseconds(5))
            }
        }
    }
}

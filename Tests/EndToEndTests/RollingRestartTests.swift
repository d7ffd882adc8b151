import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Rolling restarts of nodes that are far behind") struct RollingRestarts {
        @Test(
            "One that was away for longer than the log goes back is not ready before it has the state: the next may go then, and no write fails",
            .timeLimit(.minutes(30))
        )
        func behindTheLog() async throws {
            let megabytes =
                ProcessInfo.processInfo.environment["KONTIKI_ROLLING_MEGABYTES"].flatMap { Int($0) } ?? 12
            report("rolling restart with \(megabytes) MB of state (KONTIKI_ROLLING_MEGABYTES)")
            // The times are the defaults. A snapshot takes four seconds at least, however large.
            let options = [
                "--snapshot-log-bytes", "1m", "--trailing-log-bytes", "4k", "--memtable-bytes", "1m",
                "--snapshot-rate", "\(megabytes * 250)k",
            ]
            try await Cluster.run(options: options) { cluster in
                let leader = try await cluster.leader()
                let away = cluster.others(than: leader)[0]
                let others = cluster.others(than: away)
                let lastSeen = try await away.client.status().lastIndex
                await away.crash()
                let count = megabytes * 128
                try await Filling.write(cluster.client, prefix: "much", keys: count, times: count, bytes: 8_000)
                try await cluster.logsBegin(behind: lastSeen, on: others)
                let load = WriteLoad(prefix: "rolling")
                var retrying = KontikiClient.Options()
                retrying.totalTimeout = .seconds(60)
                let client = try KontikiClient(endpoints: cluster.nodes.map(\.endpoint), options: retrying)
                try await withThrowingTaskGroup { group in
                    for writer in 0..<4 {
                        group.addTask { await load.run(writer: writer, clients: [client], seed: UInt64(writer)) }
                    }
                    defer { load.stop() }
                    // As an operator does who brings the first back up and goes on with the others.
                    try await bringBack(away, cluster, wasAway: true)
                    for node in others {
                        await node.stop()
                        try await bringBack(node, cluster)
                    }
                    load.stop()
                }
                report("rolling restart: \(load.attempts) writes, \(load.acknowledgements) acknowledged")
                #expect(load.attempts == load.acknowledgements, "\(load.failures)")
                try await load.verify(cluster.client, "after the rolling restart")
                await client.shutdown()
            }
        }

        /// Starts a node that is down and waits until its `/readyz` says yes: it must have what was committed before it started.
        private func bringBack(_ node: NodeProcess, _ cluster: Cluster, wasAway: Bool = false) async throws {
            var committed: UInt64 = 0
            for other in cluster.others(than: node) {
                committed = max(committed, try await patiently { try await other.client.status() }.commitIndex)
            }
            try node.start()
            var said: Set<String> = []
            try await eventually("\(node.name) is ready", within: .seconds(600)) {
                let lacking = try await node.client.readiness()
                said.formUnion(lacking.map { String($0.prefix { $0 != ":" }) })
                return lacking.isEmpty
            }
            let applied = try await patiently { try await node.client.status() }.appliedIndex
            #expect(applied >= committed, "\(node.name) was ready with \(applied) of \(committed)")
            if wasAway { #expect(said.contains("applied"), "\(said)") }
        }
    }
}

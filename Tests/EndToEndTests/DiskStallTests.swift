import Foundation
import KontikiClient
import Linearizability
import Testing

extension EndToEndTests {
    @Suite("Disks that hang", .serialized) struct HangingDisks {
        @Test("Nothing is acknowledged before it is durable")
        func acknowledgement() async throws {
            try await Cluster.run(nodes: 1, areDisksSwitched: true, options: ["--request-timeout", "30s"]) { cluster in
                let node = cluster.nodes[0]
                var patient = KontikiClient.Options()
                (patient.attemptTimeout, patient.totalTimeout) = (.seconds(30), .zero)
                let writer = try KontikiClient(endpoints: [node.endpoint], options: patient)
                try await node.client.put("stall/before", Array("1".utf8))
                try node.disk?.blockSyncs(true)
                let write = Task { try await writer.put("stall/during", Array("2".utf8)) }
                try await Task.sleep(for: .milliseconds(1_500))
                #expect(try await node.client.get("stall/during", consistency: .stale) == nil)
                #expect(try await node.client.get("stall/before")?.value == Array("1".utf8), "reads need no disk")
                try node.disk?.blockSyncs(false)
                _ = try await write.value
                #expect(try await node.client.get("stall/during")?.value == Array("2".utf8))
                await writer.shutdown()
            }
        }

        @Test("A leader whose disk hangs loses leadership, writes go on elsewhere, and it follows and may lead again")
        func leader() async throws {
            let recorder = HistoryRecorder(keys: 5)
            try await Cluster.run(areDisksSwitched: true, options: ["--request-timeout", "1s"]) { cluster in
                try await recorder.record(cluster, seeds: Array(0..<6)) {
                    for round in 1...2 {
                        try await self.hangLeader(cluster, recorder, round)
                    }
                }
            }
            let text = recorder.events.map(\.line).joined()
            let verdict = try HistoryFormat.kontiki.check(Array(text.utf8))
            #expect(verdict.verdict == .linearizable, "\(verdict.offences.map(\.lines))")
            report("hanging disks: \(recorder.count(.ok)) operations answered, linearizable")
        }

        private func hangLeader(_ cluster: Cluster, _ recorder: HistoryRecorder, _ round: Int) async throws {
            try await recorder.moreAnswers(100)
            let leader = try await cluster.leader()
            let others = cluster.others(than: leader)
            try leader.disk?.blockSyncs(true)
            let began = ContinuousClock.now
            _ = try await cluster.leader(among: others)
            report("hanging disks: round \(round), another node leads after \(ContinuousClock.now - began)")
            try await recorder.moreAnswers(100)
            try await eventually("the node that hangs follows") {
                let status = await leader.status()
                return status?.role == "follower" && others.contains { $0.name == status?.leader?.id }
            }
            try leader.disk?.blockSyncs(false)
            try await cluster.allReady()
            // It may lead again.
            try await cluster.makeLead(leader)
            try await recorder.moreAnswers(50)
        }

        @Test("Syncs that are slow, but faster than an election, change no leader")
        func slow() async throws {
            // Slow against the disks, so that a busy machine does not make the difference. One write may wait for two commits of two syncs each.
            try await Cluster.run(areDisksSwitched: true, isFast: true, options: ["--election-timeout", "8s"]) {
                cluster in
                let leader = try await cluster.leader()
                let before = try await patiently { try await leader.client.status() }
                for node in cluster.nodes { try node.disk?.delaySyncs(tensOfMilliseconds: 60) }
                let load = WriteLoad(prefix: "slow")
                try await withThrowingTaskGroup { group in
                    for writer in 0..<16 {
                        group.addTask {
                            await load.run(writer: writer, clients: [cluster.client], seed: UInt64(writer))
                        }
                    }
                    defer { load.stop() }
                    try await eventually("writes are acknowledged", within: .seconds(60)) { load.acknowledgements > 60 }
                    load.stop()
                    try await group.waitForAll()
                }
                let after = try await patiently { try await leader.client.status() }
                #expect(after.role == "leader" && after.term == before.term)
                try await load.verify(cluster.client, "with slow syncs")
            }
        }
    }
}

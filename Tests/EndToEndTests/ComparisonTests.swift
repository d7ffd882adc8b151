import Foundation
import KontikiClient
import LMDB
import Testing

@testable import KeyValue

extension EndToEndTests {
    @Suite("Replicas that differ") struct ReplicasThatDiffer {
        @Test(
            "A value changed on one node's disk with all its checksums puts that node in quarantine, and touches nobody else",
            .timeLimit(.minutes(4))
        )
        func changedValue() async throws {
            try await Cluster.run { cluster in
                try await Filling.write(cluster.client, prefix: "same", keys: 200, times: 600, bytes: 100)
                let leader = try await cluster.leader()
                let victim = cluster.others(than: leader)[0]
                let other = cluster.others(than: leader)[1]
                try await eventually("\(victim.name) has it") {
                    try await victim.client.get("same/7")?.value.starts(with: Array("407 ".utf8)) == true
                }
                #expect(await victim.stop() == .exited(0))
                try tamper(victim, "same/7")
                // The examination at start would build the state anew.
                try victim.start("--verify-state", "background")
                try await eventually("the quarantine") {
                    try await ask(victim, "GET", "/readyz").contains("--rejoin")
                }
                try await expectQuarantined(victim)
                for node in [leader, other] {
                    try await eventually("\(node.name) is ready") {
                        try await ask(node, "GET", "/readyz").hasPrefix("HTTP/1.1 200")
                    }
                    try await eventually("\(node.name) reads") { (try? await node.client.get("same/7")) != nil }
                }
                // A restart does not clear it, and when the leader is gone the third one leads.
                await victim.crash()
                // The examination at start would build the state anew.
                try victim.start("--verify-state", "background")
                try await eventually("it is back") { await victim.status()?.leader != nil }
                try await expectQuarantined(victim)
                // Else the one that may not lead could be the only one that may win.
                try await eventually("\(other.name) has all that the others have") {
                    let (first, second) = (
                        try await leader.client.status().lastIndex, try await victim.client.status().lastIndex
                    )
                    return try await other.client.status().lastIndex >= max(first, second)
                }
                await leader.crash()
                let next = try await cluster.leader(among: [other, victim])
                #expect(next === other)
                try await cluster.client.put("same/after", Array("yes".utf8))
                try await eventually("the leader reads") { (try? await other.client.get("same/after")) != nil }
                try await expectQuarantined(victim)
            }
        }

        private func ask(
            _ node: NodeProcess,
            _ method: String,
            _ target: String,
            body: String = ""
        ) async throws -> String {
            (try? await RawConnection.ask(node.httpPort, method, target, [], body: body)) ?? ""
        }

        private func expectQuarantined(_ node: NodeProcess) async throws {
            let ready = try await ask(node, "GET", "/readyz")
            #expect(ready.hasPrefix("HTTP/1.1 503"), "\(ready)")
            #expect(ready.contains(#""name":"replica-comparison","ok":false"#), "\(ready)")
            for (method, target) in [
                ("GET", "/kv/same/7?consistency=stale"), ("GET", "/kv/same/7"), ("GET", "/kv?prefix=same"),
                ("GET", "/kv?prefix=same&consistency=stale"), ("PUT", "/kv/same/7"),
            ] {
                // While the others elect, it knows no leader to name.
                var answer = ""
                try await eventually("a leader is named") {
                    answer = try await ask(node, method, target, body: method == "PUT" ? "x" : "")
                    return answer.contains(#""leader":{"#)
                }
                #expect(answer.hasPrefix("HTTP/1.1 503") && answer.contains("quarantined"), "\(answer)")
                #expect(answer.contains("not_executed"), "\(answer)")
            }
        }

        /// Changes a value in the state of a node that is down, so that every checksum is right.
        private func tamper(_ node: NodeProcess, _ key: String) throws {
            let directory = node.directory + "/state"
            let current = try String(contentsOfFile: directory + "/CURRENT", encoding: .utf8)
            let path = directory + "/" + current.trimmingCharacters(in: .newlines)
            let backend = try Backend(path: path, options: StoreOptions())
            try backend.testOnlyReplaceValue(of: Array(key.utf8), by: Array("forged".utf8), keepsHash: false)
            try backend.close()
        }
    }
}

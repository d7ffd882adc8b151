import KeyValue
import NIOCore
import RaftNode
import Testing

@testable import KeyValueService

@Suite("The time of the cluster", .timeLimit(.minutes(5)))
struct ClusterClockTests {
    private func stamp(_ clock: ClusterClock, _ given: UInt64 = 0) -> UInt64? {
        var command = Command.delete(key: [1]).encode(timestampMilliseconds: given)
        clock.stamp(&command)
        return Command.timestampMilliseconds(of: command)
    }

    @Test("Who does not lead, or has not applied its first entry, stamps nothing")
    func silence() {
        let hand = HandClock()
        let clock = ClusterClock(machineMilliseconds: { hand.milliseconds })
        #expect(stamp(clock, 77) == 0)
        clock.begin(term: 3)
        #expect(clock.now == nil)
        clock.applied(term: 2, clusterMilliseconds: 500)
        #expect(clock.now == nil && clock.servingTerm == nil)
        clock.applied(term: 3, clusterMilliseconds: 500)
        #expect(clock.now == 500 && clock.servingTerm == 3)
        clock.end()
        #expect(clock.now == nil && stamp(clock, 77) == 0)
    }

    @Test("A leader goes on from the state's time, as its machine's clock does, and not from any wall clock")
    func goesOn() {
        let hand = HandClock(5)
        let clock = ClusterClock(machineMilliseconds: { hand.milliseconds })
        clock.begin(term: 1)
        clock.applied(term: 1, clusterMilliseconds: 10_000)
        hand.advance(250)
        #expect(clock.now == 10_250)
        // What the state says later was stamped here.
        clock.applied(term: 1, clusterMilliseconds: 10_200)
        #expect(clock.now == 10_250)
    }

    @Test("What was stamped here a moment ago keeps its stamp; what is older, or ahead, is stamped anew")
    func restamps() {
        let hand = HandClock()
        let clock = ClusterClock(machineMilliseconds: { hand.milliseconds })
        clock.begin(term: 1)
        clock.applied(term: 1, clusterMilliseconds: 50_000)
        #expect(stamp(clock, 49_950) == 49_950)
        #expect(stamp(clock, 49_000) == 50_000)
        #expect(stamp(clock, 50_001) == 50_000)
        #expect(stamp(clock, 0) == 50_000)
    }

    @Test("Bytes that are no command stay as they are")
    func noCommand() {
        let clock = ClusterClock(machineMilliseconds: { 1 })
        var bytes: [UInt8] = [1, 2, 3]
        clock.stamp(&bytes)
        #expect(bytes == [1, 2, 3])
    }

    @Test("On a node, the state's time follows the leader's clock, whoever makes the command")
    func onANode() async throws {
        try await ServiceCluster.with { cluster, first in
            let all = try await cluster.addTwo(to: first)
            try await first.put("a")
            let start = first.store.mark.timestampMilliseconds
            first.clock.advance(40_000)
            // The follower's clock has nothing to say.
            all[1].clock.advance(9_000_000)
            let revision = try await all[1].put("b")
            // Who was asked has applied it, the leader will have.
            #expect(all[1].store.mark.timestampMilliseconds == start + 40_000)
            try await eventually { first.store.mark.revision == revision }
            #expect(first.store.mark.timestampMilliseconds == start + 40_000)
        }
    }

    @Test("A change of leader loses what was not stamped, and adds nothing")
    func changeOfLeader() async throws {
        try await ServiceCluster.with { cluster, first in
            let all = try await cluster.addTwo(to: first)
            try await first.put("a")
            first.clock.advance(30_000)
            try await first.put("b")
            let stamped = first.store.mark.timestampMilliseconds
            first.clock.advance(1_000)
            let target = all[1].node.status.serverID
            try await first.node.transferLeadership(to: target, timeout: .seconds(30))
            try await eventually { all[1].node.machine.clock.now != nil }
            try await all[0].put("c")
            #expect(all[0].store.mark.timestampMilliseconds == stamped)
            all[1].clock.advance(700)
            try await all[0].put("d")
            #expect(all[0].store.mark.timestampMilliseconds == stamped + 700)
        }
    }
}

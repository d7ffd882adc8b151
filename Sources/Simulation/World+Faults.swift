import Raft
import RaftDriver

/// What befalls the world, and the administrator who changes it.
extension World {
    func befall(_ fault: Fault, _ number: Int) throws(Broken) {
        guard !isHealed else { return }
        statistics.faults[fault.kind, default: 0] += 1
        trace.note(now) { "fault \(number): \(fault)" }
        trace.mix(10, UInt64(number), 0)
        switch fault {
        case .crash(let victim, let down): try crash(find(victim), down: down)
        case .crashAtEffect(let victim, let effects, let down):
            let server = find(victim)
            if server.isUp { server.effectsLeft = (effects, down) }
        case .crashAtMoment(let moment, let after, let down): armed = (moment, after, down)
        case .powerCut(let down):
            for id in slots { try crash(server(id), down: down + serverRandom.upTo(climate.election)) }
        case .pause(let victim, let time): pause(find(victim), time: time)
        case .failDisk(let victim, let down): try failDisk(find(victim), down: down)
        case .slowDisk(let victim, let sync, let time):
            let server = find(victim)
            server.sync = sync
            agenda.add(.diskRecovers(server.id), at: now + time)
        case .isolate, .oneWay, .halves: cutNetwork(fault, number)
        case .cut(let left, let right): cutConnection(left, right)
        case .storm(let loss, let delay, let time):
            storm = (loss, delay)
            agenda.add(.stormEnds, at: now + time)
        case .wipe(let slot): try wipe(slot)
        case .changeMembership(let choice): try changeMembership(choice)
        case .transfer(let slot): try transferLeadership(to: slot)
        case .giveWay(let victim, let gives):
            let server = find(victim)
            if server.isUp, !server.isPaused { try post([.giveWay(gives)], to: server) }
        case .bar(let victim, let time):
            let server = find(victim)
            try bar(server, true)
            agenda.add(.mayLeadAgain(server.id), at: now + time)
        case .snapshot(let slot): try act(server(inSlot: slot)) { $0.requestSnapshot(into: &$1) }
        case .burst(let victim, let count, let isolation):
            let server = find(victim)
            if isolation > 0 { cutNetwork(.isolate(.slot(server.slot), time: isolation), number) }
            try burst(count, server)
        case .clock(let slot, let pace): server(inSlot: slot).tickLength = climate.tick * 1000 / pace
        }
    }

    /// A server comes to a moment at which a crash may be waiting for it.
    func reach(_ moment: Fault.Moment, _ server: SimulatedServer) {
        guard let armed, armed.moment == moment, server.isUp else { return }
        self.armed = nil
        statistics.crashesAtMoments += 1
        agenda.add(.crash(server.id, life: server.life, down: armed.down), at: now + armed.after)
    }

    private func find(_ victim: Fault.Victim) -> SimulatedServer {
        switch victim {
        case .slot(let slot): server(inSlot: slot)
        case .leader(let other): currentLeader ?? server(inSlot: other)
        }
    }

    private func pause(_ server: SimulatedServer, time: UInt64) {
        guard server.isUp, !server.isPaused else { return }
        server.isPaused = true
        agenda.add(.resume(server.id, life: server.life), at: now + time)
    }

    func bar(_ server: SimulatedServer, _ isBarred: Bool) throws(Broken) {
        server.isBarred = isBarred
        server.watch.barredSince = isBarred ? server.watch.barredSince ?? server.driver?.ticks : nil
        // One that is down is told when it starts, one that stands still when it goes on.
        guard server.isUp else { return }
        if server.isPaused {
            server.heldEvents.append(.mayLead(!isBarred))
        } else {
            // Behind what it hears of late itself.
            try post([.mayLead(!isBarred)], to: server)
        }
    }

    /// R6: after a failed write a server says so and is gone; nothing leaves it any more.
    private func failDisk(_ server: SimulatedServer, down: UInt64) throws(Broken) {
        guard server.isUp, !server.isPaused else { return }
        var actions = Driver.Actions()
        server.driver?.step([.storageFailed("input/output error"), .tick], into: &actions)
        try demand(
            actions.halt != nil && actions.isIdle,
            "server \(server.id.rawValue) goes on after its disk failed (R6)"
        )
        try crash(server, down: down, losesPower: false)
    }

    // MARK: Partitions

    private func cutNetwork(_ fault: Fault, _ number: Int) {
        let time: UInt64
        let isCut: @Sendable (Int, Int) -> Bool
        switch fault {
        case .isolate(let victim, let duration):
            let slot = find(victim).slot
            isCut = { $0 == slot || $1 == slot }
            time = duration
        case .oneWay(let from, let to, let duration):
            isCut = { $0 == from && $1 == to }
            time = duration
        case .halves(let mask, let bridge, let duration):
            isCut = { from, to in
                from != bridge && to != bridge && (mask >> UInt64(from)) & 1 != (mask >> UInt64(to)) & 1
            }
            time = duration
        default: return
        }
        partitions.append(Partition(number: number, isCut: isCut))
        agenda.add(.partitionHeals(number), at: now + time)
    }

    func healPartition(_ number: Int) {
        guard partitions.contains(where: { $0.number == number }) else { return }
        trace.note(now) { "partition \(number) heals" }
        partitions.removeAll { $0.number == number }
    }

    private func cutConnection(_ left: Int, _ right: Int) {
        guard left != right else { return }
        for (one, other) in [(slots[left], slots[right]), (slots[right], slots[left])] where server(one).isUp {
            agenda.add(.unreachable(one, life: server(one).life, other), at: now)
        }
    }

    // MARK: Administration

    /// Every configuration that is in force somewhere, or may come to be: asked for, or by the promotion of a learner.
    private var possibleConfigurations: [Configuration] {
        (invariants.configurations.map(\.configuration) + asked).flatMap(withPromotions)
    }

    /// `configuration`, and what may become of it by itself.
    private func withPromotions(_ configuration: Configuration) -> [Configuration] {
        [configuration] + configuration.members.compactMap(configuration.promoting)
    }

    /// Whether `configuration` can decide although `missing` never come back.
    private func canDecide(_ configuration: Configuration, without missing: Set<ServerID>) -> Bool {
        for half in [configuration.voters, configuration.outgoing] where !half.isEmpty {
            guard 2 * half.count(where: { missing.contains($0) }) < half.count else { return false }
        }
        return true
    }

    private var gone: Set<ServerID> { Set(servers.filter(\.isGone).map(\.id)) }

    /// A disk is lost for good. Only when the others can go on without it: nobody promises more.
    private func wipe(_ slot: Int) throws(Broken) {
        let server = server(inSlot: slot)
        let missing = gone.union([server.id])
        let named = possibleConfigurations
        // One at a time: what the lost one alone had acknowledged must have a majority of others.
        guard named.allSatisfy({ canDecide($0, without: missing) }),
            named.allSatisfy({ configuration in !gone.contains { configuration.contains($0) } })
        else { return }
        try crash(server, down: .max / 2, losesPower: false)
        // What it had acknowledged before still counts as having been on a majority; nobody reads it again.
        server.isGone = true
        statistics.wipes += 1
        let successor = replaceServer(inSlot: slot)
        trace.note(now) { "the disk of \(server.id.rawValue) is replaced; \(successor.id.rawValue) takes its place" }
        try start(successor)
    }

    /// The administrator looks after servers that are gone for good: their successors take their places.
    func rescue() throws(Broken) {
        agenda.add(.rescue, at: now + 3 * climate.election)
        guard let leader = currentLeader, let configuration = leader.core?.configuration, !configuration.isJoint,
            !leader.isPaused,
            let lost = servers.first(where: { $0.isGone && configuration.contains($0.id) })
        else { return }
        let successor = slots[lost.slot]
        var voters = configuration.members.filter { configuration.voters.contains($0.id) }
        var learners = configuration.members.filter { configuration.learners.contains($0.id) && $0.id != lost.id }
        if configuration.isVoter(lost.id), !configuration.contains(successor) {
            var member = World.member(successor)
            member.promotion = .replacing(lost.id)
            learners.append(member)
        } else if configuration.isVoter(lost.id), successor != lost.id, configuration.isLearner(successor) {
            guard configuration.member(successor)?.promotion == .manual else { return }
            // It was taken in otherwise; the lost one goes all the same.
            voters.removeAll { $0.id == lost.id }
            if voters.isEmpty { return }
        }
        if !configuration.isVoter(lost.id) || configuration.isVoter(successor) { voters.removeAll { $0.id == lost.id } }
        try ask(leader, for: Configuration(voters: voters, learners: learners))
    }

    private func ask(_ leader: SimulatedServer, for target: Configuration) throws(Broken) {
        // Also with what becomes of its learners by itself: one of them may be gone, though the leader has not noticed.
        let gone = gone
        guard !target.voters.isEmpty, !leader.isPaused,
            withPromotions(target).allSatisfy({ canDecide($0, without: gone) })
        else { return }
        statistics.changes += 1
        // Long before the next few are asked for, this one is settled.
        asked = asked.suffix(7) + [target]
        trace.note(now) { "the administrator asks \(leader.id.rawValue) for \(target)" }
        let token = leader.register(.administration)
        try post([.changeMembership(token, to: target)], to: leader)
    }

    private func changeMembership(_ choice: UInt64) throws(Broken) {
        var random = SeededRandom(seed: choice)
        guard let leader = random.chance(850) ? currentLeader : server(inSlot: random.pick(slots.count)),
            let configuration = leader.core?.configuration, !configuration.isJoint
        else { return }
        var voters = configuration.members.filter { configuration.voters.contains($0.id) }
        var learners = configuration.members.filter { configuration.learners.contains($0.id) }
        let outside = slots.filter { !configuration.contains($0) }
        switch random.pick(5) {
        case 0, 1:
            // A new server comes, as a learner that becomes a voter when it has caught up, or at once.
            guard let id = outside.isEmpty ? nil : outside[random.pick(outside.count)] else { fallthrough }
            var member = World.member(id)
            if random.chance(600) {
                member.promotion = random.chance(700) ? .voter : .manual
                learners.append(member)
            } else {
                voters.append(member)
            }
        case 2:
            // One leaves, or votes no more.
            guard voters.count > 1 else { return }
            let member = voters.remove(at: random.pick(voters.count))
            if random.chance(300) { learners.append(member) }
        case 3:
            guard !learners.isEmpty else { return }
            let member = learners.remove(at: random.pick(learners.count))
            if random.chance(700) { voters.append(World.member(member.id)) }
        default:
            // Anything else: several come and go at once.
            voters = slots.filter { _ in random.chance(650) }.map(World.member)
            learners = slots.filter { id in !voters.contains { $0.id == id } && random.chance(400) }.map(World.member)
        }
        try ask(leader, for: Configuration(voters: voters, learners: learners))
    }

    private func transferLeadership(to slot: Int?) throws(Broken) {
        guard let leader = currentLeader, !leader.isPaused else { return }
        statistics.handovers += 1
        let token = leader.register(.administration)
        try post([.transfer(token, to: slot.map { slots[$0] })], to: leader)
    }
}

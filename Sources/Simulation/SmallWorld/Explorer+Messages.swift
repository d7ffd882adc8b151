internal import Raft

/// Messages on their way, and what comes of them.
extension SmallWorld.Explorer {
    typealias Action = SmallWorld.Action

    mutating func inbox(_ inbox: UInt32, with message: UInt32) -> UInt32 {
        if let known = inserted[inbox, message] { return known }
        var set = inboxes[inbox]
        let position = set.firstIndex { $0 >= message } ?? set.count
        if position == set.count || set[position] != message { set.insert(message, at: position) }
        let number = inboxes.number(of: set)
        inserted[inbox, message] = number
        return number
    }

    mutating func inbox(_ inbox: UInt32, without message: UInt32) -> UInt32 {
        if let known = removed[inbox, message] { return known }
        let number = inboxes.number(of: inboxes[inbox].filter { $0 != message })
        removed[inbox, message] = number
        return number
    }

    /// Drops what can do nothing any more from the next world's messages to `server`.
    mutating func prune(_ server: Int) {
        let inbox = next[2 * server + 1]
        let kind = local.summaries[Int(next[2 * server])].kind
        if let known = pruned[inbox, kind] {
            next[2 * server + 1] = known
            return
        }
        let alive = inboxes[inbox].filter { !local.isDead($0, at: kind) }
        let number = inboxes.number(of: alive)
        pruned[inbox, kind] = number
        next[2 * server + 1] = number
    }

    /// Lets every server of the next world say what it can say without changing, until there is nothing new: where
    /// messages stay forever, more of them only allow more, so the world before can do nothing that the world after
    /// cannot. In the current world everything was said; so only those have news who changed or hear some, unless
    /// `all` may.
    mutating func saturate(all: Bool = false) {
        var waiting: UInt32 = 0
        for server in 0..<options.servers {
            let slot = 2 * server
            if all || next[slot] != current[slot] || next[slot + 1] != current[slot + 1] { waiting |= 1 << server }
        }
        while waiting != 0 {
            let server = waiting.trailingZeroBitCount
            waiting &= waiting - 1
            let saying = sayings(of: server)
            for receiver in 0..<options.servers {
                let (slot, said) = (2 * receiver + 1, sayingSets[saying][receiver])
                let before = next[slot]
                let all = union(before, said)
                guard all != before else { continue }
                next[slot] = all
                prune(receiver)
                if next[slot] != before { waiting |= 1 << receiver }
            }
        }
    }

    private mutating func sayings(of server: Int) -> Int {
        let (state, inbox) = (next[2 * server], next[2 * server + 1])
        if let known = sayings[state, inbox] { return Int(known) }
        var sets = Array(repeating: Self.nothing, count: options.servers)
        for action in silentActions(state, inbox) {
            let position = local.step(state, action)
            for sent in local.results[position].sent {
                sets[sent.receiver] = self.inbox(sets[sent.receiver], with: sent.message)
            }
        }
        sayings[state, inbox] = UInt32(sayingSets.count)
        sayingSets.append(sets)
        return sayingSets.count - 1
    }

    /// The number of the empty set of messages.
    static var nothing: UInt32 { 0 }

    private mutating func union(_ inbox: UInt32, _ more: UInt32) -> UInt32 {
        if more == Self.nothing || more == inbox { return inbox }
        if let known = united[inbox, more] { return known }
        var set = inbox
        for message in inboxes[more] { set = self.inbox(set, with: message) }
        united[inbox, more] = set
        return set
    }

    /// What may happen at any time, and at no cost, to a server in `state` with `inbox` on its way to it: a range of
    /// ``moveList``.
    ///
    /// What has no effect is left out. A message that would only be used up is one: the world behind it has fewer
    /// messages than the one before and nothing else, and no message need arrive. Where worlds are saturated, all
    /// that was said is on its way already, so that what changes no server changes nothing.
    mutating func moves(_ state: UInt32, _ inbox: UInt32) -> (first: Int, end: Int) {
        if let known = moveRanges[state, inbox] { return (moveStarts[Int(known)], moveStarts[Int(known) + 1]) }
        for action in actions(state, inbox) {
            let position = local.step(state, action)
            let result = local.results[position]
            let hasEffect = result.node != nil && (result.node != state || !(result.sent.isEmpty || isSaturated))
            if hasEffect || result.broken != nil { moveList.append((position, action.code)) }
        }
        moveRanges[state, inbox] = UInt32(moveStarts.count - 1)
        moveStarts.append(moveList.count)
        return (moveStarts[moveStarts.count - 2], moveList.count)
    }

    private func actions(_ state: UInt32, _ inbox: UInt32) -> [Action] {
        let summary = local.summaries[Int(state)]
        var actions = inboxes[inbox].map { Action(kind: .deliver, argument: $0) }
        let timers: [Action.Kind] = summary.role == .leader ? [.heartbeat, .lostContact] : [.electionTimeout]
        actions += timers.map { Action(kind: $0) }
        if summary.pendingWrites > 0 { actions.append(Action(kind: .persist)) }
        if options.fault == .forgedVote, summary.role == .candidate {
            actions += (1...UInt32(options.servers)).map { Action(kind: .forgeVote, argument: $0) }
        }
        return actions
    }

    /// What may happen to a server at any time, and leaves it as it is but for what it says.
    mutating func silentActions(_ state: UInt32, _ inbox: UInt32) -> [Action] {
        var silent: [Action] = []
        for action in actions(state, inbox) {
            let position = local.step(state, action)
            let result = local.results[position]
            if result.node == state, result.broken == nil, !result.sent.isEmpty { silent.append(action) }
        }
        return silent
    }
}

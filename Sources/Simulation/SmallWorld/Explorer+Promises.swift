internal import Raft

/// What is checked after every step.
extension SmallWorld.Explorer {
    typealias Broken = SmallWorld.Broken

    /// Checks the next world, in which `server` took the step at `position` and all others stand where they stood.
    mutating func judge(_ server: Int, _ position: Int) throws(Broken) {
        let state = next[2 * server]
        try checkMatching(server)
        let before = next[historySlot]
        if let known = judged[state, before] {
            next[historySlot] = known
        } else {
            var history = histories[before]
            try history.take(local.nodes[state])
            let after = histories.number(of: history)
            judged[state, before] = after
            next[historySlot] = after
        }
        let committed = histories[before].committed.count
        if histories[next[historySlot]].committed.count > committed {
            try checkCommit(behind: committed, by: server)
        }
        if !local.results[position].outcomes.isEmpty { try checkOutcomes(position) }
    }

    /// Logs that agree in one position agree in all before it.
    private mutating func checkMatching(_ server: Int) throws(Broken) {
        let log = local.summaries[Int(next[2 * server])].log
        if log == local.summaries[Int(current[2 * server])].log { return }
        for other in 0..<options.servers where other != server {
            let otherLog = local.summaries[Int(next[2 * other])].log
            if matching[log, otherLog] != nil { continue }
            let (left, right) = (local.nodes[next[2 * server]].memory, local.nodes[next[2 * other]].memory)
            let isSame = zip(left.entries, right.entries).map { $0 == $1 }
            let last = zip(left.entries, right.entries).map { $0.term == $1.term }.lastIndex(of: true) ?? -1
            if let differing = isSame.firstIndex(of: false), differing <= last {
                throw Broken(
                    "the logs of s\(server + 1) and s\(other + 1) agree at \(last + 1), but not at \(differing + 1)"
                )
            }
            matching[log, otherLog] = 1
        }
    }

    /// What `server` is the first to commit is durable on a quorum and known to all leaders of later terms, and
    /// nobody was told that it never would be.
    private func checkCommit(behind known: Int, by server: Int) throws(Broken) {
        let history = histories[next[historySlot]]
        let node = local.nodes[next[2 * server]]
        for item in history.committed[known...] {
            let index = item.entry.index
            func isDurable(_ voter: ServerID) -> Bool? {
                let slot = Int(voter.rawValue) - 1
                return local.nodes[next[2 * slot]].durable.entry(at: index) == item.entry
            }
            // Decided by the configuration that was the newest then: the one at the entry, or one that came behind it.
            let configurations = [node.core.configuration(at: index), node.core.configuration]
            if !configurations.contains(where: { Quorum.result($0, vote: isDurable) == .won }) {
                throw Broken("s\(server + 1) commits \(item.entry.position), which is not durable on a quorum")
            }
            guard case .command(let bytes) = item.entry.payload, let token = bytes.first else { continue }
            for other in 0..<options.servers where local.nodes[next[2 * other]].rejectedTokens >> token & 1 != 0 {
                throw Broken("request \(token) was rejected by s\(other + 1), and yet it is committed")
            }
        }
        for other in 0..<options.servers where other != server {
            try history.checkCompleteness(of: local.nodes[next[2 * other]])
        }
    }

    private func checkOutcomes(_ position: Int) throws(Broken) {
        let history = histories[next[historySlot]]
        for outcome in local.results[position].outcomes {
            let isCommitted = history.committed.contains { item in
                item.entry.payload == .command([UInt8(outcome.token)])
            }
            switch outcome {
            case .committed(let token, let position):
                let entry = history.entry(at: position.index)
                if entry?.position != position || entry?.payload != .command([UInt8(token)]) {
                    throw Broken("request \(token) is said to be committed at \(position), where it is not")
                }
            case .readReady(let token, let index):
                let floor = history.readFloors[Int(token) - Int(SmallWorld.LocalSteps.firstRead) - 1]
                if index < floor {
                    throw Broken("a stale read: \(index), but \(floor) was committed when it began")
                }
            case .rejected where isCommitted:
                throw Broken("request \(outcome.token) is rejected, and yet it is committed")
            default: break
            }
        }
    }
}

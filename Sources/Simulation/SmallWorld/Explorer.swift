internal import Raft

extension SmallWorld {
    /// The search itself. A world is a row of numbers: for each server its state and the set of messages on their way to it, and at the end
    /// the history.
    final class Explorer {
        let options: Options
        var local: LocalSteps
        private var inboxes = Interner<[UInt32]>()
        private var histories = Interner<History>()
        private var states: StateTable

        private var inserted = PairTable()
        private var removed = PairTable()
        private var pruned = PairTable()
        /// The history after a server in some state was seen with one before.
        private var judged = PairTable()
        private var matching = PairTable()
        private var counted = PairTable()

        private var current: [UInt32]
        private var next: [UInt32]
        private var place = 0
        private var transitions = 0
        /// When set, the search looks for how this world is reached from the one being expanded.
        private var wanted: [UInt32]?
        private var found: (server: Int, action: Action)?

        init(_ options: Options) {
            precondition((1...4).contains(options.servers), "a small world has 1 to 4 servers")
            let requests = [options.proposals, options.reads, options.membershipChanges.count, options.transfers]
            precondition(requests.allSatisfy { $0 <= LocalSteps.mostRequests }, "at most 15 requests of one kind")
            let width = 2 * options.servers + 1
            self.options = options
            self.local = LocalSteps(options)
            self.states = StateTable(width: width)
            self.current = Array(repeating: 0, count: width)
            self.next = current
        }

        /// An event that breaks a promise, at the world being expanded.
        private struct Found: Error {
            var server: Int
            var action: Action
            var broken: Broken
        }

        private var historySlot: Int { 2 * options.servers }

        // MARK: The search

        func run(_ progress: (Progress) -> Bool) -> Report {
            let clock = ContinuousClock()
            let start = clock.now
            begin()
            var depth = 0
            var levelEnd = states.count
            var violation: Violation?
            var isStopped = false
            func state() -> Progress {
                Progress(
                    states: states.count,
                    frontier: states.count - place,
                    depth: depth,
                    transitions: transitions,
                    elapsed: clock.now - start
                )
            }
            do throws(Found) {
                while place < states.count, states.count < options.maxStates {
                    if place == levelEnd {
                        depth += 1
                        levelEnd = states.count
                    }
                    if place % 16_384 == 16_383, !progress(state()) {
                        isStopped = true
                        break
                    }
                    try expand()
                    place += 1
                }
            } catch {
                violation = explain(error)
            }
            let isComplete = violation == nil && !isStopped && place == states.count
            return Report(
                progress: state(),
                fixedPoint: isComplete,
                violation: violation,
                localStates: local.nodes.count,
                messageSets: inboxes.count,
                histories: histories.count,
                coreSteps: local.results.count
            )
        }

        private func begin() {
            var history = History()
            history.committed = [History.Committed(entry: local.firstEntry, term: 1)]
            let nothing = inboxes.number(of: [])
            for server in 0..<options.servers {
                current[2 * server] = local.firstState(of: server + 1)
                current[2 * server + 1] = nothing
            }
            current[historySlot] = histories.number(of: history)
            _ = states.insert(current, parent: .max)
        }

        private func expand() throws(Found) {
            states.read(place, into: &current)
            let history = histories[current[historySlot]]
            for server in 0..<options.servers {
                for message in inboxes[current[2 * server + 1]] {
                    try deliver(message, to: server, history)
                }
                let summary = local.summaries[Int(current[2 * server])]
                if summary.role == .leader {
                    try attempt(server, Action(kind: .heartbeat))
                    try attempt(server, Action(kind: .lostContact))
                } else {
                    try attempt(server, Action(kind: .electionTimeout))
                }
                if summary.pendingWrites > 0 { try attempt(server, Action(kind: .persist)) }
                try ask(server, summary, history)
                if Int(history.crashes) < options.crashes {
                    for surviving in 0...summary.losableWrites {
                        try attempt(server, Action(kind: .crash, argument: surviving)) { $0.crashes += 1 }
                    }
                }
                if options.fault == .forgedVote, summary.role == .candidate {
                    for peer in 0..<options.servers where peer != server {
                        try attempt(server, Action(kind: .forgeVote, argument: UInt32(peer + 1)))
                    }
                }
            }
        }

        private func deliver(_ message: UInt32, to server: Int, _ history: History) throws(Found) {
            let action = Action(kind: .deliver, argument: message)
            guard let duplications = options.duplications else { return try attempt(server, action) }
            try attempt(server, action, consuming: message)
            if Int(history.duplications) < duplications { try attempt(server, action) { $0.duplications += 1 } }
        }

        private func ask(_ server: Int, _ summary: LocalSteps.Summary, _ history: History) throws(Found) {
            if Int(history.readFloors.count) < options.reads, summary.knowsLeader {
                let number = UInt32(history.readFloors.count + 1)
                try attempt(server, Action(kind: .read, argument: number)) {
                    $0.readFloors.append(UInt64($0.committed.count))
                }
            }
            guard summary.role == .leader else { return }
            if Int(history.proposals) < options.proposals {
                let number = UInt32(history.proposals + 1)
                try attempt(server, Action(kind: .propose, argument: number)) { $0.proposals += 1 }
            }
            if Int(history.changes) < options.membershipChanges.count {
                let number = UInt32(history.changes + 1)
                try attempt(server, Action(kind: .change, argument: number)) { $0.changes += 1 }
            }
            if Int(history.transfers) < options.transfers {
                let number = UInt32(history.transfers + 1)
                try attempt(server, Action(kind: .transfer, argument: number)) { $0.transfers += 1 }
            }
        }

        // MARK: One event

        /// Tries what `action` at `server` leads to. `count` notes in the history what was asked or used up.
        private func attempt(
            _ server: Int,
            _ action: Action,
            consuming message: UInt32? = nil,
            _ count: ((inout History) -> Void)? = nil
        ) throws(Found) {
            let before = current[2 * server]
            let position = local.step(before, action)
            if let broken = local.results[position].broken {
                throw Found(server: server, action: action, broken: broken)
            }
            // Beyond the bounds, a request that changes nothing, or a message without effect: the worlds behind such a one have fewer
            // messages than this one and nothing else, and a message need not arrive.
            guard let after = local.results[position].node, !local.results[position].isRefused else { return }
            let sentCount = local.results[position].sent.count
            if after == before, sentCount == 0, action.kind != .crash { return }
            transitions += 1
            for slot in next.indices { next[slot] = current[slot] }
            next[2 * server] = after
            if let message { next[2 * server + 1] = inbox(next[2 * server + 1], without: message) }
            if let count { next[historySlot] = counting(action.kind, count) }
            for index in 0..<sentCount {
                let sent = local.results[position].sent[index]
                next[2 * sent.receiver + 1] = inbox(next[2 * sent.receiver + 1], with: sent.message)
            }
            prune(server)
            for index in 0..<sentCount { prune(local.results[position].sent[index].receiver) }
            do throws(Broken) {
                try judge(server, position)
            } catch {
                throw Found(server: server, action: action, broken: error)
            }
            if let wanted {
                if found == nil, next == wanted { found = (server, action) }
                return
            }
            if states.insert(next, parent: UInt32(place)), states.count == Int(UInt32.max) - 1 {
                preconditionFailure("worlds are counted in 32 bits")
            }
        }

        private func inbox(_ inbox: UInt32, with message: UInt32) -> UInt32 {
            if let known = inserted[inbox, message] { return known }
            var set = inboxes[inbox]
            let position = set.firstIndex { $0 >= message } ?? set.count
            let isFull = set.count >= options.messagesUnderWay ?? .max
            if !isFull, position == set.count || set[position] != message { set.insert(message, at: position) }
            let number = inboxes.number(of: set)
            inserted[inbox, message] = number
            return number
        }

        private func inbox(_ inbox: UInt32, without message: UInt32) -> UInt32 {
            if let known = removed[inbox, message] { return known }
            let number = inboxes.number(of: inboxes[inbox].filter { $0 != message })
            removed[inbox, message] = number
            return number
        }

        /// Drops what can do nothing any more from the next world's messages to `server`.
        private func prune(_ server: Int) {
            let inbox = next[2 * server + 1]
            let kind = local.summaries[Int(next[2 * server])].kind
            if let known = pruned[inbox, kind] {
                next[2 * server + 1] = known
                return
            }
            let number = inboxes.number(of: inboxes[inbox].filter { !local.isDead($0, at: kind) })
            pruned[inbox, kind] = number
            next[2 * server + 1] = number
        }

        private func counting(_ kind: Action.Kind, _ count: (inout History) -> Void) -> UInt32 {
            let before = current[historySlot]
            if let known = counted[before, kind.rawValue] { return known }
            var history = histories[before]
            count(&history)
            let number = histories.number(of: history)
            counted[before, kind.rawValue] = number
            return number
        }

        // MARK: Promises

        /// Checks the next world, in which `server` took the step at `position` and all others stand where they stood.
        private func judge(_ server: Int, _ position: Int) throws(Broken) {
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
        private func checkMatching(_ server: Int) throws(Broken) {
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
                        "the logs of s\(server + 1) and s\(other + 1) agree at index \(last + 1), but not at \(differing + 1)"
                    )
                }
                matching[log, otherLog] = 1
            }
        }

        /// What `server` is the first to commit is durable on a quorum and known to all leaders of later terms, and nobody was told that
        /// it never would be.
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
                    let floor = history.readFloors[Int(token) - Int(LocalSteps.firstRead) - 1]
                    if index < floor {
                        throw Broken("a stale read: \(index), but \(floor) was committed when it began")
                    }
                case .rejected where isCommitted:
                    throw Broken("request \(outcome.token) is rejected, and yet it is committed")
                default: break
                }
            }
        }

        // MARK: The way to a violation

        private func explain(_ end: Found) -> Violation {
            var places: [Int] = []
            var walked: Int? = place
            while let at = walked {
                places.append(at)
                walked = states.parent(of: at)
            }
            places.reverse()
            var lines: [String] = []
            for (from, to) in zip(places, places.dropFirst()) {
                let target = world(at: to)
                place = from
                wanted = target
                found = nil
                // Every event of an expanded world was tried before without a violation.
                do throws(Found) { try expand() } catch { break }
                if let found {
                    lines.append(line(lines.count + 1, found.server, found.action, after: target[2 * found.server]))
                }
            }
            wanted = nil
            place = places[places.count - 1]
            states.read(place, into: &current)
            lines.append(line(lines.count + 1, end.server, end.action, after: nil))
            return Violation(description: end.broken.description, path: lines)
        }

        private func world(at place: Int) -> [UInt32] {
            var state = current
            states.read(place, into: &state)
            return state
        }

        private func line(_ number: Int, _ server: Int, _ action: Action, after: UInt32?) -> String {
            let text = Transcript.describe(action, at: server + 1, local)
            guard let after else { return "\(number). \(text)" }
            return "\(number). \(text)  ⇒ \(Transcript.describe(local.nodes[after]))"
        }
    }
}

internal import Raft

extension SmallWorld {
    /// The search itself. A world is a row of numbers: for each server its state and the set of messages on their way
    /// to it, and at the end the history.
    struct Explorer {
        let options: Options
        var local: LocalSteps
        var inboxes = Interner<[UInt32]>()
        var histories = Interner<History>()
        var states: StateTable

        var inserted = PairTable()
        var removed = PairTable()
        var pruned = PairTable()
        /// What a server in some state can say, without any change of its own, when it has been sent some set of
        /// messages.
        var sayings = PairTable()
        /// For each saying, a set of messages for each receiver.
        var sayingSets: [[UInt32]] = []
        var united = PairTable()
        /// What may happen to a server in some state with some set of messages at any time; ranges of ``moveList``.
        var moveRanges = PairTable()
        var moveStarts: [Int] = [0]
        /// Each a step's place and its action's code.
        var moveList: [(position: Int, code: UInt32)] = []
        /// The history after a server in some state was seen with one before.
        var judged = PairTable()
        var matching = PairTable()
        var counted = PairTable()

        var current: [UInt32]
        var next: [UInt32]
        var place = 0
        var transitions = 0
        /// When set, the search looks for how this world is reached from the one being expanded.
        var wanted: [UInt32]?
        var found: (server: Int, action: Action)?

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
        struct Found: Error {
            var server: Int
            var action: Action
            var broken: Broken
        }

        /// Whether servers say at once whatever they can say without changing.
        var isSaturated: Bool { options.duplications == nil && options.isReduced }

        var historySlot: Int { 2 * options.servers }

        // MARK: The search

        mutating func run(_ progress: (Progress) -> Bool) -> Report {
            let clock = ContinuousClock()
            let start = clock.now
            begin()
            var depth = 0
            var levelEnd = states.count
            var violation: Violation?
            var isStopped = false
            do throws(Found) {
                while place < states.count, states.count < options.maxStates {
                    if place == levelEnd {
                        depth += 1
                        levelEnd = states.count
                    }
                    if place % 16_384 == 16_383, !progress(standing(depth, clock.now - start)) {
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
                progress: standing(depth, clock.now - start),
                fixedPoint: isComplete,
                violation: violation,
                localStates: local.nodes.count,
                messageSets: inboxes.count,
                histories: histories.count,
                coreSteps: local.results.count
            )
        }

        private func standing(_ depth: Int, _ elapsed: Duration) -> Progress {
            Progress(
                states: states.count,
                frontier: states.count - place,
                depth: depth,
                transitions: transitions,
                elapsed: elapsed
            )
        }

        private mutating func begin() {
            var history = History()
            history.committed = [History.Committed(entry: local.firstEntry, term: 1)]
            let nothing = inboxes.number(of: [])
            for server in 0..<options.servers {
                current[2 * server] = local.firstState(of: server + 1)
                current[2 * server + 1] = nothing
            }
            current[historySlot] = histories.number(of: history)
            if isSaturated {
                next = current
                saturate(all: true)
                current = next
            }
            _ = states.insert(current, parent: .max)
        }

        mutating func expand() throws(Found) {
            states.read(place, into: &current)
            let history = histories[current[historySlot]]
            for server in 0..<options.servers {
                let (state, inbox) = (current[2 * server], current[2 * server + 1])
                let (first, end) = moves(state, inbox)
                for index in first..<end {
                    let (position, code) = moveList[index]
                    try follow(server, Action(code: code), position, history)
                }
                let summary = local.summaries[Int(state)]
                try ask(server, summary, history)
                if Int(history.crashes) < options.crashes {
                    for surviving in 0...summary.losableWrites {
                        try attempt(server, Action(kind: .crash, argument: surviving)) { $0.crashes += 1 }
                    }
                }
            }
        }

        /// Takes a move that costs nothing, or a message's arrival: once where messages are used up, and again as a
        /// duplicate.
        private mutating func follow(_ server: Int, _ action: Action, _ position: Int, _ history: History) throws(Found)
        {
            guard action.kind == .deliver, let duplications = options.duplications else {
                return try take(server, action, position)
            }
            try take(server, action, position, consuming: action.argument)
            if Int(history.duplications) < duplications {
                try take(server, action, position) { $0.duplications += 1 }
            }
        }

        private mutating func ask(_ server: Int, _ summary: LocalSteps.Summary, _ history: History) throws(Found) {
            guard summary.role == .leader else { return }
            if Int(history.readFloors.count) < options.reads {
                let number = UInt32(history.readFloors.count + 1)
                try attempt(server, Action(kind: .read, argument: number)) {
                    $0.readFloors.append(UInt64($0.committed.count))
                }
            }
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
        private mutating func attempt(
            _ server: Int,
            _ action: Action,
            _ count: ((inout History) -> Void)? = nil
        ) throws(Found) {
            let position = local.step(current[2 * server], action)
            try take(server, action, position, count)
        }

        /// Follows the step at `position`, which is what `action` does to `server`.
        private mutating func take(
            _ server: Int,
            _ action: Action,
            _ position: Int,
            consuming message: UInt32? = nil,
            _ count: ((inout History) -> Void)? = nil
        ) throws(Found) {
            let before = current[2 * server]
            if let broken = local.results[position].broken {
                throw Found(server: server, action: action, broken: broken)
            }
            // Beyond the bounds, a request that changes nothing, or no effect at all but on what is on its way: see
            // ``moves(_:_:)``.
            guard let after = local.results[position].node, !local.results[position].isRefused else { return }
            let sentCount = local.results[position].sent.count
            if after == before, sentCount == 0 || isSaturated, count == nil { return }
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
            if isSaturated { saturate() }
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

        private mutating func counting(_ kind: Action.Kind, _ count: (inout History) -> Void) -> UInt32 {
            let before = current[historySlot]
            if let known = counted[before, kind.rawValue] { return known }
            var history = histories[before]
            count(&history)
            let number = histories.number(of: history)
            counted[before, kind.rawValue] = number
            return number
        }
    }
}

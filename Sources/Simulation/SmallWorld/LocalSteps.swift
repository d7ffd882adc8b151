internal import Raft

extension SmallWorld {
    /// What single servers do: each step of the real core is taken once and remembered.
    struct LocalSteps {
        /// What one action does to one server.
        struct Result {
            /// The server's state afterwards; nil when it lies beyond the bounds.
            var node: UInt32?
            /// The messages sent, by number, at their receivers.
            var sent: [(receiver: Int, message: UInt32)] = []
            var outcomes: [Outcome] = []
            var broken: Broken?
            /// A request that was turned down at once.
            var isRefused = false
        }

        /// What the search reads most of a server's state.
        struct Summary {
            var role: Core.Role
            var pendingWrites: UInt32
            /// Writes that a crash may lose.
            var losableWrites: UInt32
            var log: UInt32
            /// Servers of one kind have the same messages that can do nothing any more, see
            /// ``LocalSteps/isDead(_:at:)``.
            var kind: UInt32
        }

        let options: Options
        private let coreOptions: Raft.Options
        private(set) var nodes = Interner<Node>()
        private(set) var summaries: [Summary] = []
        private(set) var messages = Interner<Message>()
        private(set) var logs = Interner<[LogPosition]>()
        private var kinds = Interner<Kind>()
        private(set) var results: [Result] = []
        private var known = PairTable()

        var highestTerm: Term { Term(1 + options.terms) }

        init(_ options: Options) {
            self.options = options
            var core = Raft.Options()
            core.electionTicks = 2
            core.heartbeatTicks = 1
            core.maxAppendEntries = options.entriesPerAppend
            core.maxInFlightMessages = options.appendsUnderWay
            self.coreOptions = core
        }

        /// The number of the state in which server `number` begins.
        mutating func firstState(of number: Int) -> UInt32 {
            var disk = Disk()
            if number <= options.initialVoters ?? options.servers {
                disk.hardState.term = 1
                disk.entries = [firstEntry]
            }
            var node = Node(id: ServerID(UInt64(number)), disk: disk, seed: 0, options: coreOptions)
            if options.fault == .lyingDisk { node.platter = disk }
            return store(node)
        }

        /// What every voter's log begins with.
        var firstEntry: Entry {
            let voters = Array(1...(options.initialVoters ?? options.servers))
            return Entry(index: 1, term: 1, payload: .configuration(Self.configuration(voters)))
        }

        /// The place in ``results`` of what `action` does to the server in state `state`.
        mutating func step(_ state: UInt32, _ action: Action) -> Int {
            if let place = known[state, action.code] { return Int(place) }
            var node = nodes[state]
            var step = StepResult()
            var result = Result()
            do throws(Broken) {
                try perform(action, on: &node, into: &step)
            } catch {
                result.broken = error
            }
            for message in step.sent where message.term <= highestTerm {
                let receiver = Int(message.to.rawValue) - 1
                guard receiver >= 0, receiver < options.servers else { continue }
                result.sent.append((receiver, messages.number(of: message)))
            }
            result.outcomes = step.outcomes
            if let token = Self.token(of: action) {
                result.isRefused = step.outcomes.contains { outcome in
                    if case .rejected(token, _, _) = outcome { return true }
                    return false
                }
            }
            if result.broken != nil {
                result.node = state
            } else if node.core.term <= highestTerm {
                result.node = store(node)
            }
            known[state, action.code] = UInt32(results.count)
            results.append(result)
            return results.count - 1
        }

        private mutating func store(_ node: Node) -> UInt32 {
            let number = nodes.number(of: node)
            if Int(number) == summaries.count {
                summaries.append(
                    Summary(
                        role: node.core.role,
                        pendingWrites: UInt32(node.pending.count),
                        losableWrites: UInt32(node.pending.count + node.unsynced.count),
                        log: logs.number(of: node.memory.entries.map(\.position)),
                        kind: kinds.number(of: Kind(node))
                    )
                )
            }
            return number
        }

        private func perform(_ action: Action, on node: inout Node, into result: inout StepResult) throws(Broken) {
            if let token = Self.token(of: action) { node.openTokens |= 1 << token }
            switch action.kind {
            case .persist:
                try node.persist(options, into: &result)
                node.renumber()
                return
            case .crash:
                if options.reads > 0 { node.life += 1 }
                try node.crash(surviving: Int(action.argument), seed: UInt64(node.life), fault: options.fault)
                return
            case .electionTimeout: node.core.elapse(.election)
            case .heartbeat: node.core.elapse(.heartbeat)
            case .lostContact: node.core.elapse(.contact)
            default: break
            }
            try node.step(event(of: action, at: node), within: options, into: &result)
        }

        private func event(of action: Action, at node: Node) -> Event {
            switch action.kind {
            case .deliver: return .message(messages[action.argument])
            case .electionTimeout, .heartbeat, .lostContact, .persist, .crash: return .tick
            case .propose:
                let token = Token(action.argument)
                return .propose([Proposal(token: token, command: [UInt8(token)])])
            case .change:
                let target = options.membershipChanges[Int(action.argument) - 1]
                return .changeMembership(Token(Self.firstChange + action.argument), to: Self.configuration(target))
            case .read: return .read([Token(Self.firstRead + action.argument)])
            case .transfer: return .transfer(Token(Self.firstTransfer + action.argument), to: nil)
            case .forgeVote:
                return .message(
                    Message(
                        from: ServerID(UInt64(action.argument)),
                        to: node.core.id,
                        term: node.core.term,
                        body: .voteResponse(granted: true)
                    )
                )
            }
        }

        // MARK: Dead messages

        /// What decides which messages can do nothing any more.
        private struct Kind: Hashable {
            /// A crash does not take the server back before this term.
            var durableTerm: Term
            /// The term that it leads or campaigns in; 0 for none.
            var ownTerm: Term
            var isLeader: Bool

            init(_ node: Node) {
                let core = node.core
                durableTerm = node.durable.hardState.term
                ownTerm = core.role == .candidate || core.isLeader ? core.term : 0
                isLeader = core.isLeader
            }
        }

        /// Whether `message` can never again do anything at a server of this kind, whatever happens to it. Worlds
        /// that differ in dead messages only are one.
        ///
        /// A server that has left a term durably does not come back to it, and it campaigns in each term once; so
        /// answers to a campaign or to a leadership that is over do nothing. Requests always get an answer and never
        /// die.
        func isDead(_ message: UInt32, at kindNumber: UInt32) -> Bool {
            let kind = kinds[kindNumber]
            let message = messages[message]
            guard message.term <= kind.durableTerm else { return false }
            switch message.body {
            case .preVoteResponse(granted: true): return true
            case .preVoteResponse(granted: false), .timeoutNow, .readIndexResponse, .proposeResponse:
                return message.term < kind.durableTerm
            case .voteResponse: return message.term != kind.ownTerm || kind.isLeader
            case .appendResponse, .heartbeatResponse: return message.term != kind.ownTerm
            case .preVoteRequest, .voteRequest, .append, .heartbeat, .readIndexRequest, .propose: return false
            }
        }

        // MARK: Requests

        /// Requests of each kind are counted from 1 on; their tokens, one bit of a word each, follow these.
        static let firstRead: UInt32 = 16
        static let firstChange: UInt32 = 32
        static let firstTransfer: UInt32 = 48
        /// The most requests of one kind.
        static let mostRequests = 15

        static func token(of action: Action) -> Token? {
            switch action.kind {
            case .propose: Token(action.argument)
            case .read: Token(firstRead + action.argument)
            case .change: Token(firstChange + action.argument)
            case .transfer: Token(firstTransfer + action.argument)
            default: nil
            }
        }

        static func configuration(_ voters: [Int]) -> Configuration {
            Configuration(
                voters: voters.map { Member(id: ServerID(UInt64($0)), name: "s\($0)", peerAddress: "s\($0):1") }
            )
        }
    }
}

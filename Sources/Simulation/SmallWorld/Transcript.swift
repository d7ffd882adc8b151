internal import Raft

extension SmallWorld {
    /// Events and servers in words.
    enum Transcript {
        static func describe(_ action: Action, at server: Int, _ local: LocalSteps) -> String {
            let name = "s\(server)"
            switch action.kind {
            case .deliver: return describe(local.messages[action.argument])
            case .electionTimeout: return "\(name): election timeout"
            case .heartbeat: return "\(name): heartbeat due"
            case .lostContact: return "\(name): no follower was heard of for an election timeout"
            case .persist: return "\(name): the oldest write under way is durable"
            case .crash: return "\(name): crash and restart; writes under way that survive: \(action.argument)"
            case .propose: return "\(name): a client sends command \(action.argument)"
            case .read: return "\(name): a client asks for read \(action.argument)"
            case .change:
                let voters = local.options.membershipChanges[Int(action.argument) - 1].map { "s\($0)" }
                return "\(name): asked for the voters \(voters.joined(separator: " "))"
            case .transfer: return "\(name): asked to hand leadership over"
            case .forgeVote: return "\(name): the network makes up a vote of s\(action.argument)"
            }
        }

        static func describe(_ node: Node) -> String {
            let core = node.core
            var text = "\(core.role.rawValue) term \(core.term)"
            if let vote = core.hardState.vote { text += " vote s\(vote.rawValue)" }
            text += " log [\(node.memory.entries.map(\.position.description).joined(separator: " "))]"
            text += " commit \(core.commitIndex)"
            if !node.pending.isEmpty { text += ", \(node.pending.count) writes under way" }
            return text
        }

        static func describe(_ message: Message) -> String {
            let head = "s\(message.from.rawValue)→s\(message.to.rawValue)"
            return "\(head): \(describe(message.body)) (term \(message.term))"
        }

        private static func describe(_ body: Message.Body) -> String {
            switch body {
            case .preVoteRequest(let request): "pre-vote? log ends at \(request.last)"
            case .preVoteResponse(let granted): granted ? "pre-vote granted" : "pre-vote refused"
            case .voteRequest(let request):
                "vote? log ends at \(request.last)" + (request.isTransfer ? ", on the leader's order" : "")
            case .voteResponse(let granted): granted ? "vote granted" : "vote refused"
            case .append(let append):
                "append behind \(append.previous) [\(append.entries.map(describe).joined(separator: " "))]"
                    + " commit \(append.commit)"
            case .appendResponse(let response):
                switch response.result {
                case .accepted(let match): "append accepted up to \(match)"
                case .rejected(let rejected, let hint): "append rejected at \(rejected), hint \(hint)"
                }
            case .heartbeat(let heartbeat): "heartbeat commit \(heartbeat.commit) round \(heartbeat.round)"
            case .heartbeatResponse(let response): "heartbeat answered round \(response.round)"
            case .timeoutNow: "campaign now"
            case .readIndexRequest: "read index?"
            case .readIndexResponse(_, let index): index.map { "read index \($0)" } ?? "no read index"
            case .propose(_, let commands): "\(commands.count) commands handed on"
            case .proposeResponse(_, .accepted(let first)): "commands taken from \(first) on"
            case .proposeResponse(_, .rejected): "commands refused"
            case .proposeResponse(_, .overloaded): "commands refused for overload"
            }
        }

        private static func describe(_ entry: Entry) -> String {
            switch entry.payload {
            case .noop: "\(entry.position)"
            case .command(let bytes): "\(entry.position)=c\(bytes.first ?? 0)"
            case .configuration(let configuration): "\(entry.position)={\(configuration)}"
            }
        }
    }
}

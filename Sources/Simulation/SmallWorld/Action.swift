extension SmallWorld {
    /// Something that happens to one server.
    struct Action: Hashable {
        enum Kind: UInt32 {
            /// The message of this number arrives.
            case deliver
            case electionTimeout
            case heartbeat
            case lostContact
            /// The oldest write under way becomes durable.
            case persist
            /// A crash, which this many of the writes under way survive, and a restart.
            case crash
            /// The request of this number.
            case propose, change, read, transfer
            /// The network makes up a vote in answer to a request of this server.
            case forgeVote
        }

        var kind: Kind
        var argument: UInt32 = 0

        /// As one number; no two actions share it.
        var code: UInt32 {
            precondition(argument < 1 << 26, "messages and requests are counted below 2^26")
            return kind.rawValue << 26 | argument
        }

        init(kind: Kind, argument: UInt32 = 0) {
            self.kind = kind
            self.argument = argument
        }

        /// The action of this ``code``.
        init(code: UInt32) {
            guard let kind = Kind(rawValue: code >> 26) else { preconditionFailure("\(code) is no action") }
            self.init(kind: kind, argument: code & ((1 << 26) - 1))
        }
    }
}

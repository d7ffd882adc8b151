package import Raft

extension Configuration {
    /// The configuration in which a learner has become what its member record says; nil when that is impossible now.
    package func promoting(_ member: Member) -> Configuration? {
        switch member.promotion {
        case .manual: nil
        case .voter: rebuilt(voters: voters + [member.id], changed: member.settled)
        case .replacing(let old):
            rebuilt(
                voters: voters.filter { $0 != old } + [member.id],
                without: contains(old) ? old : nil,
                changed: member.settled
            )
        }
    }

    /// The same members but for `without` and `changed`, with these voters.
    package func rebuilt(voters: [ServerID], without: ServerID? = nil, changed: Member? = nil) -> Configuration {
        let all = members.filter { $0.id != without }.map { $0.id == changed?.id ? changed! : $0 }
        return Configuration(
            voters: all.filter { voters.contains($0.id) },
            learners: all.filter { !voters.contains($0.id) }
        )
    }
}

extension Member {
    /// The member once its promotion has come about.
    package var settled: Member {
        var member = self
        member.promotion = .manual
        return member
    }
}

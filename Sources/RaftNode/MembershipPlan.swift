internal import Raft
internal import RaftDriver

/// From what an operator asks for to the configuration that the core is to reach.
extension Configuration {
    /// The configuration after `request`, or what is wrong with it. This one must not be joint.
    func target(of request: MembershipRequest) throws(OperationError) -> Configuration {
        switch request {
        case .add(let member): return try adding(member)
        case .promote(let id):
            guard let member = member(id), isLearner(id) else {
                throw OperationError(.invalid, "server \(id) is no learner of this cluster")
            }
            return rebuilt(voters: voters + [id], changed: member.settled)
        case .update(let member):
            guard let known = self.member(member.id) else {
                throw OperationError(.invalid, "server \(member.id) is no member of this cluster")
            }
            guard self.member(named: member.name).map({ $0.id == member.id }) ?? true else {
                throw OperationError(.invalid, "the name '\(member.name)' belongs to another server")
            }
            try check(member)
            var changed = member
            changed.promotion = known.promotion
            return rebuilt(voters: voters, changed: changed)
        case .remove(let id):
            guard contains(id) else { throw OperationError(.invalid, "server \(id) is no member of this cluster") }
            guard voters != [id] else {
                throw OperationError(.invalid, "the last voter cannot be removed; add another server first")
            }
            return rebuilt(voters: voters.filter { $0 != id }, without: id)
        case .replace(let old, let new):
            guard let member = member(new), isLearner(new) else {
                throw OperationError(.invalid, "server \(new) is no learner of this cluster; let it join first")
            }
            guard contains(old) else { throw OperationError(.invalid, "server \(old) is no member of this cluster") }
            return rebuilt(voters: voters.filter { $0 != old } + [new], without: old, changed: member.settled)
        }
    }

    /// Names and addresses have bounds: they are a part of every configuration, snapshot and handshake.
    private func check(_ member: Member) throws(OperationError) {
        for text in [member.name, member.peerAddress, member.clientAddress] where text.utf8.count > 255 {
            throw OperationError(.invalid, "a name or an address has at most 255 bytes; '\(text.prefix(40))…' has more")
        }
        guard !member.name.isEmpty, !member.peerAddress.isEmpty else {
            throw OperationError(.invalid, "a member needs a name and an address for its peers")
        }
        guard members.count < 256 else { throw OperationError(.invalid, "a cluster has at most 256 members") }
    }

    private func adding(_ member: Member) throws(OperationError) -> Configuration {
        try check(member)
        if let known = self.member(member.id) {
            throw OperationError(.invalid, "server \(member.id) is a member already, as '\(known.name)'")
        }
        if case .replacing(let old) = member.promotion {
            guard isVoter(old) else {
                throw OperationError(.invalid, "the server to replace is no voter of this cluster")
            }
        }
        if let other = self.member(named: member.name), member.promotion != .replacing(other.id) {
            throw OperationError(
                .invalid,
                "the name '\(member.name)' belongs to server \(other.id); choose another, or join with --replace \(member.name)"
            )
        }
        return Configuration(
            voters: members.filter { voters.contains($0.id) },
            learners: members.filter { learners.contains($0.id) } + [member]
        )
    }
}

internal import Logging
internal import NIOCore
internal import Raft
internal import RaftDriver
internal import RaftStorage
internal import RaftTransport

/// What follows from the driver's state outside of its actions: links, log lines, and the status for other threads.
extension Engine {
    /// What was last seen, to notice changes.
    struct Seen {
        var role = Core.Role.follower
        var term: Term = 0
        var leader: ServerID?
        var configuration = Configuration.empty
        var configurationIndex: LogIndex?
        var links: [ServerID] = []
        /// The configuration has named this server. One that joins may first be sent a snapshot from before it was taken in.
        var wasMember = false
        /// It was named by one that is committed. From then on one without it is its removal, also before that is known to be committed.
        var wasTakenIn = false
        var isRemoved = false
        var statusTick: UInt64 = 0
        var logBytes: Int?

        /// A server that comes back may have been removed; the log tells, as far as it reaches back. One configuration follows another only
        /// once that is committed.
        mutating func remember(_ recovered: Recovered) {
            let id = recovered.identity.serverID
            let configurations = [recovered.base.configuration] + recovered.entries.compactMap(\.configuration)
            wasTakenIn = configurations.dropLast().contains { $0.contains(id) }
            wasMember = configurations.contains { $0.contains(id) }
        }
    }

    /// After every step: cheap when nothing changed.
    func observe() {
        let isNewTick = driver.ticks != seen.statusTick
        if seen.term != driver.core.term || seen.role != driver.core.role || seen.leader != driver.core.leaderID {
            noteLeadership()
        }
        if isNewTick || seen.configurationIndex != driver.core.configurationIndex {
            let followers = driver.core.peerViews.map(\.id)
            if seen.configuration != driver.core.configuration || seen.links != followers {
                noteConfiguration(followers)
            }
            noteRemoval()
        }
        if !seen.wasTakenIn { seen.wasTakenIn = isTakenIn }
        board.update(appliedIndex: driver.core.appliedIndex)
        guard isNewTick else { return }
        correctOwnAddress()
        confirmJoin()
        if lackOfRoom.state != nil { updateAdmission() }
        compareStates()
        publishStatus()
        confirmOnce()
    }

    private var leaderMember: Member? { driver.core.leaderID.flatMap { driver.core.configuration.member($0) } }

    private func noteLeadership() {
        let core = driver.core
        let leader = core.leaderID.map { name(of: $0) } ?? "none"
        if core.isLeader != (seen.role == .leader) || seen.leader != core.leaderID {
            logger.notice(
                core.isLeader ? "leads now" : "follows now",
                metadata: ["term": "\(core.term)", "leader": "\(leader)", "commit": "\(core.commitIndex)"]
            )
        } else {
            logger.debug("term or role changed", metadata: ["term": "\(core.term)", "role": "\(core.role)"])
        }
        if seen.role == .leader, !core.isLeader { cancelTransfers() }
        if core.isLeader != (seen.role == .leader) || (core.isLeader && core.term != seen.term) {
            if core.isLeader { machine.leadershipBegan(term: core.term) } else { machine.leadershipEnded() }
        }
        (seen.role, seen.term, seen.leader) = (core.role, core.term, core.leaderID)
        publishStatus()
    }

    private func noteConfiguration(_ followers: [ServerID]) {
        let configuration = driver.core.configuration
        if seen.configuration != configuration {
            logger.info("membership", metadata: ["now": "\(configuration)"])
            for member in configuration.members {
                // A changed record is newer than what the server said when it called.
                if let known = lastAddresses[member.id], known != member.peerAddress { announced[member.id] = nil }
                lastAddresses[member.id] = member.peerAddress
            }
        }
        seen.configuration = configuration
        if configuration.contains(driver.core.id) { seen.wasMember = true }
        seen.links = followers
        updateLinks()
        publishStatus()
    }

    /// Opens links to everybody who is dealt with: the members, and who is only told of its removal or calls as a leader yet unknown.
    func updateLinks() {
        let core = driver.core
        var peers: [ServerID: String] = [:]
        // A server that was removed only answers who calls: it may be taken in again.
        let ids = (isRemoved ? [] : core.configuration.members.map(\.id) + core.peerViews.map(\.id)) + callers
        for id in ids where id != identity.serverID { peers[id] = address(of: id) }
        guard peers != linkedPeers else { return }
        linkedPeers = peers
        transport.updatePeers(peers)
    }

    private var isRemoved: Bool {
        let core = driver.core
        return seen.wasMember && !core.configuration.isEmpty && !core.configuration.contains(core.id)
            && core.configurationIndex <= core.commitIndex
    }

    /// Outgoing voters were named by a committed configuration: no other is ever left.
    private var isTakenIn: Bool {
        let (core, configuration) = (driver.core, driver.core.configuration)
        return configuration.outgoing.contains(core.id)
            || core.configurationIndex <= core.commitIndex && configuration.contains(core.id)
    }

    /// A server that is reached elsewhere than the configuration says (it moved, or its port was chosen by the system) has its
    /// record changed.
    private func correctOwnAddress() {
        guard driver.ticks >= nextCorrectionTick, let known = driver.core.configuration.member(identity.serverID),
            known.peerAddress != identity.peerAddress || known.clientAddress != identity.clientAddress
                || known.name != identity.name,
            driver.core.leaderID != nil, !driver.core.configuration.isJoint
        else { return }
        var member = known
        member.name = identity.name
        member.peerAddress = identity.peerAddress
        member.clientAddress = identity.clientAddress
        let request = NodeCall.change(.update(member))
        nextCorrectionTick = driver.ticks + 2 * driver.core.options.electionTicks
        correction = Task {
            let answer = await self.callLeader(request, timeout: .seconds(5))
            guard let error = answer.error else { return }
            self.logger.debug("the own address is not corrected yet", metadata: ["reason": "\(error)"])
        }
    }

    private func noteRemoval() {
        guard isRemoved != seen.isRemoved else { return }
        seen.isRemoved = isRemoved
        if isRemoved { logger.notice("this server was removed from the cluster; it may be stopped") }
        board.update { $0.fault = isRemoved ? "removed from the cluster" : nil }
        updateLinks()
    }

    private func publishStatus() {
        // Asking the store costs a little more than the rest: about once a second is enough.
        if driver.ticks % 50 == 0 || seen.logBytes == nil { seen.logBytes = store.usedBytes }
        seen.statusTick = driver.ticks
        noteLeaderHeard()
        let (core, pursuit) = (driver.core, self.pursuit)
        let views = core.peerViews
        let pace = options.tickMilliseconds
        let peers = core.configuration.members.map { member -> NodeStatus.Peer in
            let view = views.first { $0.id == member.id }
            let isSelf = member.id == core.id
            return NodeStatus.Peer(
                member: member,
                isVoter: core.configuration.isVoter(member.id),
                isLeader: member.id == core.leaderID,
                matchIndex: isSelf ? core.stableIndex : view?.match,
                lastContactMilliseconds: isSelf ? 0 : view.map { Int($0.ticksSinceContact) * pace },
                isHealthy: isSelf
                    || (view.map { $0.ticksSinceContact <= core.options.electionTicks }
                        ?? transport.isConnected(member.id)),
                isReceivingSnapshot: view?.isReceivingSnapshot ?? false
            )
        }
        board.update { status in
            status.clusterID = identity.clusterID
            status.role = role
            status.term = core.term
            status.leader = leaderMember
            status.firstIndex = core.firstIndex
            status.lastIndex = core.lastIndex
            status.commitIndex = core.commitIndex
            status.appliedIndex = core.appliedIndex
            status.durableIndex = driver.durableIndex
            status.snapshotIndex = driver.snapshotIndex
            status.configuration = core.configuration
            status.peers = peers
            status.logBytes = seen.logBytes ?? 0
            status.quarantine = comparison.quarantine
            status.comparison = comparison.status
            status.pursuit = pursuit
        }
    }

    private var role: NodeStatus.Role {
        switch driver.core.role {
        case .leader: .leader
        case .candidate, .preCandidate: .candidate
        case .follower: driver.core.configuration.isVoter(driver.core.id) ? .follower : .learner
        }
    }

    func name(of peer: ServerID) -> String { driver.core.configuration.member(peer)?.name ?? peer.description }

    func address(of peer: ServerID) -> String? {
        announced[peer] ?? driver.core.configuration.member(peer)?.peerAddress ?? lastAddresses[peer]
    }
}

/// What the transport tells the node.
extension Engine: PeerTransportDelegate {
    func receive(_ messages: [Message]) {
        let leads = driver.core.isLeader
        step(messages.map { .message(leads ? prepared($0) : $0) })
    }

    /// A follower's commands are about to become this leader's.
    private func prepared(_ message: Message) -> Message {
        guard case .propose(let requestID, var commands) = message.body else { return message }
        for position in commands.indices { machine.prepare(&commands[position]) }
        return Message(
            from: message.from,
            to: message.to,
            term: message.term,
            body: .propose(requestID: requestID, commands: commands)
        )
    }

    func connected(_ peer: ServerID) { logger.debug("connected", metadata: ["peer": "\(name(of: peer))"]) }

    func disconnected(_ peer: ServerID) {
        logger.debug("disconnected", metadata: ["peer": "\(name(of: peer))"])
        step([.unreachable(peer)])
    }

    /// A leader that has just taken this server in calls before the answer to the join request has come.
    func adopt(_ cluster: ClusterID, calledBy peer: ServerIdentity) -> Bool {
        guard become(partOf: cluster) else { return false }
        called(by: peer)
        return true
    }

    func called(by peer: ServerIdentity) {
        guard peer.clusterID == identity.clusterID || identity.clusterID == .none else { return }
        announced[peer.serverID] = peer.peerAddress
        if isRemoved || !driver.core.configuration.contains(peer.serverID), !callers.contains(peer.serverID) {
            callers.append(peer.serverID)
            if callers.count > 64 { callers.removeFirst() }
        }
        updateLinks()
    }

    /// Makes the cluster durable and begins to serve. False when that failed or the server belongs to another one.
    func become(partOf cluster: ClusterID) -> Bool {
        if identity.clusterID == cluster { return true }
        guard identity.clusterID == .none, committer == nil else { return false }
        do {
            // Nothing runs yet that this write could hold up.
            try store.adopt(clusterID: cluster)
        } catch {
            fail("the cluster's identity cannot be stored: \(error)")
            return false
        }
        identity = store.identity
        transport.updateIdentity(ServerIdentity(identity))
        logger.notice("taken into the cluster", metadata: ["cluster": "\(cluster)"])
        run()
        return true
    }
}

extension ServerIdentity {
    init(_ identity: Identity) {
        self.init(
            serverID: identity.serverID,
            clusterID: identity.clusterID,
            name: identity.name,
            peerAddress: identity.peerAddress,
            clientAddress: identity.clientAddress
        )
    }
}

internal import Logging
internal import NIOCore
internal import Raft
internal import RaftDriver
internal import RaftStorage
internal import RaftTransport
internal import Synchronization

/// Joining, changes of membership, transfers, and the end.
extension Engine {
    /// Listens for peers; answers the address that was bound.
    func listen() async throws -> String {
        let address = try PeerAddress(parsing: options.listenAddress)
        let bound = try await transport.start(listeningOn: address, delegate: self)
        let advertised =
            options.peerAddress.isEmpty
            ? PeerAddress(host: address.host, port: bound.port).description : options.peerAddress
        // On the loop, as the adoption is: neither meets the other, and nothing else writes before the committer runs.
        try await loop.submit { [self] in
            if committer == nil {
                try store.update(name: options.name, peerAddress: advertised, clientAddress: options.clientAddress)
            }
            identity = store.identity
            (identity.name, identity.peerAddress) = (options.name, advertised)
            identity.clientAddress = options.clientAddress
            transport.updateIdentity(ServerIdentity(identity))
        }.get()
        return advertised
    }

    // MARK: Joining

    /// Asks the given servers, and whom they name as the leader, until one takes this server in.
    func join() async throws {
        guard case .join(let addresses, let replacing) = options.beginning, !addresses.isEmpty else {
            throw StartError(
                .nothingToStart,
                "this server was prepared to join a cluster but never taken in; start it with --join HOST:PORT of a member"
            )
        }
        var redirected: String?
        var attempt = 0
        while try await !loop.submit({ self.identity.clusterID != .none }).get() {
            try Task.checkCancellation()
            let address = redirected ?? addresses[attempt % addresses.count]
            redirected = nil
            attempt += 1
            switch try await askToJoin(at: address, replacing) {
            case .accepted(let cluster):
                guard try await loop.submit({ self.become(partOf: cluster) }).get() else {
                    throw StartError(.failed, "the cluster's identity could not be stored")
                }
            case .redirect(let leader): redirected = leader
            case .refused(let reason):
                throw StartError(.joinRefused, "the cluster does not take this server in: \(reason)")
            case .identity, .answer, nil:
                if attempt % 10 == 1 { logger.notice("waiting to be taken in", metadata: ["asked": "\(address)"]) }
                try await pause(milliseconds: 200)
            }
        }
    }

    private func askToJoin(at address: String, _ replacing: String?) async throws -> ControlResponse? {
        let me = try await loop.submit { self.identity }.get()
        let member = Member(
            id: me.serverID,
            name: me.name,
            peerAddress: me.peerAddress,
            clientAddress: me.clientAddress,
            promotion: .voter
        )
        let request = ControlRequest.join(JoinRequest(member: member, replaces: replacing))
        return try? await transport.control(request, at: address, timeout: .seconds(10))
    }

    /// The leader that called first may have died before this server's membership was committed: until the own configuration names it,
    /// it goes on asking.
    func confirmJoin() {
        guard case .join(let addresses, let replacing) = options.beginning, !addresses.isEmpty,
            driver.ticks >= nextJoinTick, !isAskingToJoin, mustConfirmJoin
        else { return }
        nextJoinTick = driver.ticks + 5 * driver.core.options.electionTicks
        isAskingToJoin = true
        let address = addresses[Int(driver.ticks) % addresses.count]
        joining = Task {
            if case .redirect(let leader) = try? await self.askToJoin(at: address, replacing),
                (try? await self.loop.submit({ self.mustConfirmJoin }).get()) ?? false
            {
                _ = try? await self.askToJoin(at: leader, replacing)
            }
            self.loop.execute { self.isAskingToJoin = false }
        }
    }

    /// One that is being removed must not ask to be taken in again.
    private var mustConfirmJoin: Bool {
        !driver.core.configuration.contains(identity.serverID) && !seen.isRemoved && !seen.wasTakenIn
    }

    func pause(milliseconds: Int64) async throws {
        try await loop.scheduleTask(in: .milliseconds(milliseconds)) {}.futureResult.get()
    }

    /// Answers a peer's request that is none of Raft's messages.
    func control(
        _ request: ControlRequest,
        from sender: ServerIdentity,
        reply: @escaping @Sendable (ControlResponse) -> Void
    ) {
        switch request {
        case .identify: reply(.identity(ServerIdentity(identity)))
        case .join(let join): Task { reply(await self.takeIn(join)) }
        case .call(let bytes):
            if let call = ComparisonCall(decoding: bytes) { return reply(answer(call, from: sender)) }
            guard let call = NodeCall(decoding: bytes) else {
                reply(.refused("an unknown request; is this server of an older version?"))
                return
            }
            Task { reply(.answer(await self.carryOut(call, timeout: .seconds(30)).encode())) }
        }
    }

    private func takeIn(_ join: JoinRequest) async -> ControlResponse {
        let vitals = board.vitals
        // One that waits to join itself, or knows no leader at the moment: ask again, or another.
        guard store.identity.clusterID != .none else { return .answer([]) }
        guard let leader = vitals.leader else { return .answer([]) }
        if leader.id != store.identity.serverID { return .redirect(leader.peerAddress) }
        let configuration = board.current.configuration
        // A repeated request of a server whose first answer was lost.
        if configuration.contains(join.member.id) {
            let isCommitted = try? await loop.submit { [self] in
                driver.core.configurationIndex <= driver.core.commitIndex
            }.get()
            return isCommitted ?? false ? .accepted(store.identity.clusterID) : .answer([])
        }
        var member = join.member
        if let replaced = join.replaces {
            guard let old = configuration.members.first(where: { $0.name == replaced || $0.id.description == replaced })
            else {
                return .refused("there is no member '\(replaced)' to replace; see 'kontiki member list'")
            }
            member.promotion = .replacing(old.id)
        }
        let answer = await carryOut(.change(.add(member)), timeout: .seconds(8))
        switch answer.error?.code {
        case nil: return .accepted(store.identity.clusterID)
        case .invalid:
            // Its first request may have taken it in while this one waited.
            if board.current.configuration.contains(join.member.id) { return .answer([]) }
            return .refused(answer.error?.description ?? "")
        default: return .answer([])
        }
    }

    // MARK: Membership and transfer

    /// Has the leader carry out what an operator asked for, this server or another.
    func callLeader(_ call: NodeCall, timeout: TimeAmount) async -> NodeCall.Answer {
        guard let leader = board.vitals.leader, leader.id != store.identity.serverID else {
            return await carryOut(call, timeout: timeout)
        }
        do {
            let response = try await transport.control(.call(call.encode()), at: leader.peerAddress, timeout: timeout)
            if case .answer(let bytes) = response, let answer = NodeCall.Answer(decoding: bytes) { return answer }
            throw TransportError(.protocolViolation, "no proper answer: \(response)")
        } catch {
            let text = "the leader '\(leader.name)' cannot be asked: \(error)"
            return NodeCall.Answer(error: OperationError(.unreachable, leader: leader.id, text))
        }
    }

    /// Carries out what an operator asked for, on the leader.
    func carryOut(_ call: NodeCall, timeout: TimeAmount) async -> NodeCall.Answer {
        let deadline = NIODeadline.now() + timeout
        switch call {
        case .transfer(let target): return await operate(deadline) { .transfer($0, to: target) }
        case .change(let request): return await change(request, deadline)
        case .addMember(let name, let address, let replacing):
            return await takeIn(name: name, at: address, replacing: replacing, deadline)
        }
    }

    private func takeIn(
        name: String?,
        at address: String,
        replacing: ServerID?,
        _ deadline: NIODeadline
    ) async -> NodeCall.Answer {
        let found: ServerIdentity
        do {
            guard
                case .identity(let identity) = try await transport.control(.identify, at: address, timeout: .seconds(3))
            else { throw TransportError(.protocolViolation, "it does not say who it is") }
            found = identity
        } catch {
            return .init(
                error: OperationError(
                    .unreachable,
                    "no server answers at \(address) (\(error)); start it with --join first, it waits to be taken in"
                )
            )
        }
        guard found.clusterID == .none || found.clusterID == store.identity.clusterID else {
            return .init(error: OperationError(.invalid, "the server at \(address) belongs to another cluster"))
        }
        let member = Member(
            id: found.serverID,
            name: name ?? found.name,
            peerAddress: address,
            clientAddress: found.clientAddress,
            promotion: replacing.map { .replacing($0) } ?? .voter
        )
        var answer = await change(.add(member), deadline)
        if answer.error == nil { answer.member = member }
        return answer
    }

    /// Tries again while another change is under way.
    private func change(_ request: MembershipRequest, _ deadline: NIODeadline) async -> NodeCall.Answer {
        while true {
            let answer = await operate(deadline) { [driver = self] token throws(OperationError) in
                .changeMembership(token, to: try driver.target(of: request))
            }
            guard answer.error?.code == .busy, NIODeadline.now() < deadline else { return answer }
            try? await pause(milliseconds: 50)
        }
    }

    /// On the loop.
    private func target(of request: MembershipRequest) throws(OperationError) -> Configuration {
        let configuration = driver.core.configuration
        guard driver.core.isLeader else { throw notLeader }
        guard !configuration.isJoint else { throw OperationError(.busy, "another change of membership is under way") }
        return try configuration.target(of: request)
    }

    private var notLeader: OperationError {
        OperationError(.notLeader, leader: driver.core.leaderID, "this server does not lead")
    }

    /// Feeds the core an event with a token, and waits for the token's outcome until `deadline`.
    private func operate(
        _ deadline: NIODeadline,
        _ event: @escaping @Sendable (Token) throws(OperationError) -> Event
    ) async -> NodeCall.Answer {
        await withCheckedContinuation { continuation in
            loop.execute { [self] in
                guard isRunning else {
                    continuation.resume(
                        returning: .init(error: OperationError(.shuttingDown, "this server is not running"))
                    )
                    return
                }
                let token = register(.operation { continuation.resume(returning: .init(error: Self.error(of: $0))) })
                loop.scheduleTask(deadline: deadline) { [self] in
                    guard case .operation(let completion) = forget(token) else { return }
                    completion(.unknown(token, leader: nil))
                }
                do throws(OperationError) {
                    step([try event(token)])
                } catch {
                    _ = forget(token)
                    continuation.resume(returning: .init(error: error))
                }
            }
        }
    }

    private static func error(of outcome: Outcome) -> OperationError? {
        switch outcome {
        case .done, .committed, .readReady: nil
        case .rejected(_, .noLeader, let leader):
            OperationError(.notLeader, leader: leader, "this server does not lead")
        case .rejected(_, .invalid, let leader):
            OperationError(
                .invalid,
                leader: leader,
                "the target is not a voter that could lead, or there is no other voter"
            )
        case .rejected(_, _, let leader):
            OperationError(
                .busy,
                leader: leader,
                "another change of membership or a transfer is under way; try again shortly"
            )
        case .unknown(_, let leader):
            OperationError(.timedOut, leader: leader, "it was not seen to succeed; look at the members")
        }
    }

    // MARK: The end

    /// Hands leadership over, lets pending work finish, makes the state durable and closes everything.
    func shutdown(patience: TimeAmount?) async {
        let electionMilliseconds = Int64(options.core.electionTicks) * Int64(options.tickMilliseconds)
        let patience = patience ?? .milliseconds(4 * electionMilliseconds)
        if board.current.role == .leader, board.current.configuration.voters.count > 1 {
            _ = await carryOut(.transfer(to: nil), timeout: patience)
        }
        inbox.close()
        await finishPending(within: patience)
        try? await loop.submit { [self] in
            tickTask?.cancel()
            scrubTask?.cancel()
            cancelTransfers()
            comparison.isStopping.set()
            snapshots.hurryUp()
            stop()
        }.get()
        await transport.shutdown()
        for task in (try? await loop.submit { [self] in [correction, joining, comparison.asking] }.get()) ?? [] {
            await task?.value
        }
        let committer = (try? await loop.submit { [self] in self.committer }.get()) ?? nil
        await blocking { [self] in
            verifier.shutdown()
            applier.shutdown()
            background.shutdown()
            committer?.shutdown()
            reader.shutdown()
            streams.shutdown()
            // What failed on these threads at the very end is heard first.
            let isSound = (try? loop.submit { [self] in !hasFailed }.wait()) ?? false
            if isSound { flushAtLast() }
            try? store.close()
        }
    }

    /// What it does not make durable is applied again from the log at the next start; but that the disk failed must be known.
    private func flushAtLast() {
        do {
            _ = try machine.flush()
        } catch let error as NoRoomError {
            logger.warning("the state is not made durable now", metadata: ["reason": "\(error)"])
        } catch {
            try? loop.submit { [self] in fail("the state cannot be made durable: \(error)") }.wait()
        }
    }

    private func finishPending(within time: TimeAmount) async {
        let deadline = NIODeadline.now() + time
        while NIODeadline.now() < deadline {
            let isIdle = try? await loop.submit { [self] in hasFailed || !hasWaiters }.get()
            if isIdle ?? true { return }
            try? await pause(milliseconds: 5)
        }
    }

    private func blocking(_ work: @escaping @Sendable () -> Void) async {
        let thread = WorkerThread(name: "kontiki-stop", capacity: 1)
        await withCheckedContinuation { continuation in
            _ = thread.submit {
                work()
                continuation.resume()
            }
        }
        thread.shutdown()
    }
}

/// Tells the engine of snapshots that arrived; made before the engine is.
final class Arrivals<Machine: StateMachine>: Sendable {
    private let engine = Mutex<Engine<Machine>?>(nil)

    func connect(_ engine: Engine<Machine>) { self.engine.withLock { $0 = engine } }

    /// Whom this server takes for the leader, as far as its membership names it.
    var leader: ServerID? { engine.withLock { $0 }?.board.vitals.leader?.id }

    /// The disk failed while a snapshot was written to it.
    func fail(_ error: StorageError) {
        guard let engine = engine.withLock({ $0 }) else { return }
        engine.loop.execute { engine.fail("a snapshot that arrives cannot be written: \(error)") }
    }

    /// On the streams thread, never on a loop. Returns when the core knows, so that the sender's next append finds it in place.
    func tell(_ descriptor: SnapshotDescriptor, from peer: ServerID) {
        guard let engine = engine.withLock({ $0 }) else { return }
        try? engine.loop.submit { engine.snapshotArrived(descriptor, from: peer) }.wait()
    }
}

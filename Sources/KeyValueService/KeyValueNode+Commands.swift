public import KeyValue
public import NIOCore
import Raft
import RaftNode

/// Every command there is; those of single keys have faster ways, see ``put(key:value:contentType:lease:condition:returnsPrevious:options:deadline:completion:)``.
extension KeyValueNode {
    /// Executes a command. What makes it invalid the caller has checked (`Command.validate(options:)`): such come back as `Outcome.invalid`.
    public func write(
        _ command: Command,
        options: CommandOptions = .none,
        deadline: NIODeadline,
        completion: @escaping WriteCompletion
    ) {
        write(command, options: options, deadline: deadline, unless: nil, completion: completion)
    }

    /// - Parameter isGivenUp: asked before each attempt; once it says so, the command is not handed to the node any more.
    func write(
        _ command: Command,
        options: CommandOptions,
        deadline: NIODeadline,
        unless isGivenUp: (@Sendable () -> Bool)?,
        completion: @escaping WriteCompletion
    ) {
        propose(
            command.encode(options: options, timestampMilliseconds: stamp),
            deadline: deadline,
            unless: isGivenUp,
            completion: completion
        )
    }

    /// Executes a command, and returns what it did.
    public func write(
        _ command: Command,
        options: CommandOptions = .none,
        timeout: TimeAmount? = nil
    ) async throws(ServiceError) -> Written {
        try await result { completion in
            self.write(command, options: options, deadline: self.deadline(after: timeout), completion: completion)
        }.get()
    }

    /// Executes a transaction. The outcome is `transaction`, or why nothing was executed.
    public func execute(
        _ transaction: Transaction,
        options: CommandOptions = .none,
        timeout: TimeAmount? = nil
    ) async throws(ServiceError) -> Written {
        try await write(.transaction(transaction), options: options, timeout: timeout)
    }

    /// Adds to the decimal number that a key holds. The outcome is `incremented`, or why it was not.
    public func increment(
        key: [UInt8],
        by amount: Int64,
        condition: Condition = .none,
        options: CommandOptions = .none,
        timeout: TimeAmount? = nil
    ) async throws(ServiceError) -> Written {
        try await write(
            .increment(key: key[...], by: amount, condition: condition),
            options: options,
            timeout: timeout
        )
    }

    /// Makes a lease; with `id` 0 the state chooses one. The outcome is `lease`, or `leaseExists`.
    public func grantLease(
        id: UInt64 = 0,
        ttl: TimeAmount,
        options: CommandOptions = .none,
        timeout: TimeAmount? = nil
    ) async throws(ServiceError) -> Written {
        let milliseconds = UInt64(clamping: ttl.nanoseconds / 1_000_000)
        return try await write(.grantLease(id: id, ttlMilliseconds: milliseconds), options: options, timeout: timeout)
    }

    /// Ends a lease and deletes what lives with it. The outcome is `leaseRevoked`, or `leaseNotFound`.
    public func revokeLease(_ id: UInt64, timeout: TimeAmount? = nil) async throws(ServiceError) -> Written {
        try await write(.revokeLease(id), timeout: timeout)
    }

    /// Begins the time of a lease anew. Requests of one moment share a command.
    ///
    /// - Parameter completion: called once, with the lease, or nil when there is none. Not to block.
    public func keepLeaseAlive(
        _ id: UInt64,
        deadline: NIODeadline,
        completion: @escaping @Sendable (Result<LeaseStatus?, ServiceError>) -> Void
    ) {
        keepAlives.add(id, deadline: deadline, completion: completion)
    }

    /// Begins the time of a lease anew, and returns it; nil when there is none.
    public func keepLeaseAlive(_ id: UInt64, timeout: TimeAmount? = nil) async throws(ServiceError) -> LeaseStatus? {
        try await result { completion in
            self.keepLeaseAlive(id, deadline: self.deadline(after: timeout), completion: completion)
        }.get()
    }

    /// Asks for a lock, and waits for it if the request says so. Cancelling the task gives the place back, where nobody can come
    /// back for it; see ``LockWait/cancel()``.
    public func acquireLock(
        _ request: LockRequest,
        options: CommandOptions = .none,
        timeout: TimeAmount? = nil
    ) async throws(ServiceError) -> LockAnswer {
        let handle = LockHandle()
        let deadline = deadline(after: timeout)
        let answer: Result<LockAnswer, ServiceError> = await withTaskCancellationHandler {
            await result { completion in
                handle.begin(completion) { completion in
                    self.acquireLock(
                        request,
                        options: options,
                        deadline: deadline,
                        eventLoop: self.loop,
                        completion: completion
                    )
                }
            }
        } onCancel: {
            handle.cancel()
        }
        return try answer.get()
    }

    /// Gives back a lock, or a place in its queue. The outcome is `lockReleased`, or `lockNotFound`.
    public func releaseLock(
        name: [UInt8],
        token: UInt64,
        options: CommandOptions = .none,
        timeout: TimeAmount? = nil
    ) async throws(ServiceError) -> Written {
        try await write(.releaseLock(name: name, token: token), options: options, timeout: timeout)
    }
}

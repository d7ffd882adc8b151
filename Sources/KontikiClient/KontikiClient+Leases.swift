internal import NIOCore
internal import NIOHTTP1

extension KontikiClient {
    /// Makes a lease that ends `time` after it was last kept alive, with every key that was put with it.
    ///
    /// The cluster begins to count at some moment between the request and its answer: a holder that must know until when the lease surely
    /// lives counts from before it asked, here and whenever it keeps it alive.
    ///
    /// - Parameter time: 1 second to 366 days.
    public func grantLease(_ time: Duration) async throws(ClientError) -> Lease {
        let request = Request(
            method: .POST,
            target: "/leases",
            headers: [("Content-Type", "application/json")],
            body: try LeaseRequest(ttl: "\(Milliseconds(time))").encoded(),
            idempotencyKey: newIdempotencyKey()
        )
        return try await perform(request).lease()
    }

    /// Lets a lease begin its time anew; nil when there is none any more.
    ///
    /// It does no harm to do that twice, so it is repeated at the next node after every failure of one. An attempt at one node takes no
    /// longer than leaves time to ask another before the lease ends: a third of its time with two or three endpoints, two ninths with
    /// four or five, two thirds with one, and never more than ``Options/attemptTimeout``. When all nodes were asked in vain, it takes
    /// twice as long in each further round.
    ///
    /// - Parameters:
    ///   - time: how long the lease lasts, as it was granted or was answered before; nil, when it is not known, is taken for the
    ///     shortest, a second.
    ///   - limit: the time for all attempts together, where it is less than ``Options/totalTimeout``: a holder that must stop when the
    ///     lease may have ended names what is left of it.
    public func keepAlive(
        _ lease: LeaseID,
        time: Duration? = nil,
        within limit: Duration? = nil
    ) async throws(ClientError) -> Lease? {
        var request = Request(method: .PUT, target: "/leases/\(lease)", isHarmlessTwice: true)
        request.attemptTimeout = keepAliveTimeout(time ?? .seconds(1))
        request.totalTimeout = limit
        return try await ask(request)
    }

    /// The first third of a lease's time is over when it is kept alive again. The rest is shared by the attempts at all nodes of a cluster
    /// that may be silent, and one more.
    private func keepAliveTimeout(_ time: Duration) -> Duration {
        max(time * 2 / 3 / (endpoints.count / 2 + 1), .milliseconds(10))
    }

    /// How a lease stands, with its keys; nil when there is none.
    public func lease(_ lease: LeaseID) async throws(ClientError) -> Lease? {
        try await ask(Request(method: .GET, target: "/leases/\(lease)"))
    }

    /// Ends a lease now, with its keys. Answers whether there was one.
    ///
    /// Without ``Options/isExactlyOnce`` one that was gone only behind an attempt of unknown outcome counts as ended by it.
    @discardableResult
    public func revoke(_ lease: LeaseID) async throws(ClientError) -> Bool {
        try await end("/leases/\(lease)", gone: [404])
    }

    /// Deletes what, once it is deleted, never comes back under the same name.
    private func end(_ target: String, gone: Set<Int>) async throws(ClientError) -> Bool {
        let key = newIdempotencyKey()
        let request = Request(method: .DELETE, target: target, isHarmlessTwice: true, idempotencyKey: key)
        let response = try await perform(request, accepting: gone)
        // With a key a repetition gives the first answer again; without one it finds only that nothing is there any more.
        return !gone.contains(response.status) || (key == nil && response.isInDoubt)
    }

    private func ask(_ request: Request) async throws(ClientError) -> Lease? {
        let response = try await perform(request, accepting: [404])
        return response.status == 404 ? nil : try response.lease()
    }

    /// Takes a lock, waiting for it if another holds it.
    ///
    /// How old the grant is when its answer comes, the answer does not say. What must not run beside another holder begins when
    /// ``keepAlive(_:time:within:)`` has found the lock's lease alive, and counts its time from before that was asked.
    ///
    /// - Parameters:
    ///   - time: the lock is lost so long after it was last kept alive (see ``keepAlive(_:time:within:)`` and ``Lock/lease``).
    ///   - wait: how long to wait in the queue; zero asks once.
    ///   - value: for others to see who holds it: an election's candidate says here who it is. At most 4,096 bytes.
    /// - Returns: nil when another still holds it.
    public func acquireLock(
        _ name: String,
        time: Duration,
        wait: Duration = .zero,
        value: String? = nil
    ) async throws(ClientError) -> Lock? {
        let clock = ContinuousClock()
        let start = clock.now
        while true {
            let left = max(.zero, wait - (clock.now - start))
            if let lock = try await askForLock(name, time, left, value) { return lock }
            // A place in the queue can be lost before the time is up, with the node that kept it: ask for another.
            guard wait - (clock.now - start) > .milliseconds(100) else { return nil }
            do {
                try await Task.sleep(for: .milliseconds(50))
            } catch {
                throw ClientError(.cancelled, "waiting for the lock was cancelled")
            }
        }
    }

    private func askForLock(
        _ name: String,
        _ time: Duration,
        _ wait: Duration,
        _ value: String?
    ) async throws(ClientError) -> Lock? {
        let body = LockRequest(
            ttl: "\(Milliseconds(time))",
            wait: wait > .zero ? "\(Milliseconds(wait))" : nil,
            value: value
        )
        let request = Request(
            method: .POST,
            target: lock(name),
            headers: [("Content-Type", "application/json")],
            body: try body.encoded(),
            idempotencyKey: newIdempotencyKey(),
            waits: wait
        )
        let response = try await perform(request, accepting: [409])
        return response.status == 409 ? nil : try response.decoded(LockDocument.self).lock
    }

    /// Gives a lock back. Answers false when it was not held with this token any more.
    ///
    /// Without ``Options/isExactlyOnce`` one that was not held only behind an attempt of unknown outcome counts as given back by it.
    @discardableResult
    public func releaseLock(_ name: String, token: UInt64) async throws(ClientError) -> Bool {
        try await end(lock(name) + "?token=\(token)", gone: [404, 412])
    }

    /// Who holds a lock, nil when nobody does, and the store's revision at which that is so: a watch goes on from there.
    public func lock(_ name: String) async throws(ClientError) -> (holder: Lock?, revision: UInt64) {
        let response = try await perform(Request(method: .GET, target: lock(name)), accepting: [404])
        let revision = response.number("Kontiki-Revision")
        return (response.status == 404 ? nil : try response.decoded(LockDocument.self).lock, revision)
    }

    private func lock(_ name: String) -> String { "/locks/" + PercentEncoding.query(name.utf8) }
}

/// A lease as a node answered it.
public struct Lease: Hashable, Sendable {
    public var id: LeaseID
    /// How long it lasts when it is not kept alive.
    public var time: Duration
    /// What was left of it when the node answered.
    public var remaining: Duration
    /// Its keys, where the answer named them.
    public var keys: [Key]
}

/// A lock as a node answered it.
public struct Lock: Hashable, Sendable {
    public var name: String
    /// The fencing token: grows with every holder.
    public var token: UInt64
    /// Keeps the lock: it is lost with this lease.
    public var lease: LeaseID
    /// What the holder said of itself.
    public var value: String?
    public var revision: UInt64

    /// For writes that shall take place only while the lock is held.
    public var fence: Fence { Fence(lock: name, token: token) }
}

extension KontikiClient.Response {
    fileprivate func lease() throws(ClientError) -> Lease {
        guard let lease = try decoded(LeaseDocument.self).lease else {
            throw ClientError(
                .badAnswer,
                outcome: .executed,
                status: status,
                endpoint: endpoint.url,
                "the lease has no name"
            )
        }
        return lease
    }
}

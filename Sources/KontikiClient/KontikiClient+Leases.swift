internal import NIOCore
internal import NIOHTTP1

extension KontikiClient {
    /// Makes a lease that ends `time` after it was last kept alive, with every key that was put with it.
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
    public func keepAlive(_ lease: LeaseID) async throws(ClientError) -> Lease? {
        try await ask("PUT", lease)
    }

    /// How a lease stands, with its keys; nil when there is none.
    public func lease(_ lease: LeaseID) async throws(ClientError) -> Lease? {
        try await ask("GET", lease)
    }

    /// Ends a lease now, with its keys. Answers whether there was one.
    @discardableResult
    public func revoke(_ lease: LeaseID) async throws(ClientError) -> Bool {
        let request = Request(method: .DELETE, target: "/leases/\(lease)", isIdempotent: true)
        return try await perform(request, accepting: [404]).status != 404
    }

    private func ask(_ method: String, _ lease: LeaseID) async throws(ClientError) -> Lease? {
        let request = Request(method: HTTPMethod(rawValue: method), target: "/leases/\(lease)", isIdempotent: true)
        let response = try await perform(request, accepting: [404])
        return response.status == 404 ? nil : try response.lease()
    }

    /// Takes a lock, waiting for it if another holds it.
    ///
    /// - Parameters:
    ///   - time: the lock is lost so long after it was last kept alive (see ``keepAlive(_:)`` and ``Lock/lease``).
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
    @discardableResult
    public func releaseLock(_ name: String, token: UInt64) async throws(ClientError) -> Bool {
        let request = Request(method: .DELETE, target: lock(name) + "?token=\(token)", isIdempotent: true)
        return try await perform(request, accepting: [404, 412]).status < 300
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

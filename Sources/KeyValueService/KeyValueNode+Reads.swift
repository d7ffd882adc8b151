public import NIOCore
public import Raft
import RaftNode

extension KeyValueNode {
    /// Confirms that a read of ``store`` from now on is linearizable, retrying while leadership changes hands.
    ///
    /// `completion` is called once, on the calling thread, the Raft loop or the service's loop.
    public func confirmRead(
        deadline: NIODeadline,
        completion: @escaping @Sendable (Result<LogIndex, ServiceError>) -> Void
    ) {
        let node = self.node
        if node.isQuarantined { return completion(.failure(quarantined)) }
        let operations = self.operations
        let freshness = self.freshness
        let operation = Operation(
            deadline: deadline,
            bytes: 0,
            isWrite: false,
            submit: { operation in
                // Noted before the index is asked for: what is confirmed was true at some moment after it.
                let start = freshness.now
                node.confirmRead { outcome in
                    switch outcome {
                    case .ready(let index, _):
                        freshness.prove(asOf: start)
                        guard operations.finish(operation) else { return }
                        completion(.success(index))
                    case .rejected(let rejection):
                        operations.reject(operation, rejection)
                    }
                }
            },
            fail: { completion(.failure($0)) }
        )
        operations.start(operation)
    }

    /// Says when a read of ``readableStore()`` meets `requirement`, or why it cannot in time: ``ServiceError/Code/tooStale`` for a bound that
    /// is not proven, ``ServiceError/Code/notCaughtUp`` for a revision that is not applied.
    ///
    /// `completion` is called once, on the calling thread, the Raft loop or the service's loop.
    public func permitRead(
        _ requirement: ReadRequirement,
        deadline: NIODeadline,
        completion: @escaping @Sendable (Result<ReadPermit, ServiceError>) -> Void
    ) {
        if node.isQuarantined { return completion(.failure(quarantined)) }
        guard let revision = requirement.minimumRevision else {
            return permitRead(requirement.consistency, deadline, completion)
        }
        // The revision first: what it waits for, the proof may outlive.
        revisions.wait(for: revision, deadline: deadline) { result in
            switch result {
            case .success: self.permitRead(requirement.consistency, deadline, completion)
            case .failure(let error): completion(.failure(error))
            }
        }
    }

    private func permitRead(
        _ consistency: ReadRequirement.Consistency,
        _ deadline: NIODeadline,
        _ completion: @escaping @Sendable (Result<ReadPermit, ServiceError>) -> Void
    ) {
        switch consistency {
        case .stale: completion(.success(ReadPermit(staleness: provenStaleness)))
        case .strong:
            confirmRead(deadline: deadline) { result in
                completion(result.map { _ in ReadPermit(staleness: self.provenStaleness) })
            }
        case .bounded(let maximum):
            boundedReads.confirm(
                maximum,
                deadline: deadline,
                ask: { self.confirmRead(deadline: $0, completion: $1) },
                completion: completion
            )
        }
    }

    /// Returns when a read of ``readableStore()`` meets `requirement`; see ``permitRead(_:deadline:completion:)``.
    public func permitRead(
        _ requirement: ReadRequirement,
        timeout: TimeAmount? = nil
    ) async throws(ServiceError) -> ReadPermit {
        try await result { completion in
            self.permitRead(requirement, deadline: self.deadline(after: timeout), completion: completion)
        }.get()
    }
}

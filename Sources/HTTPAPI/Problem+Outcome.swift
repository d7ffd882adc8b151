import KeyValue

/// What the state refused, as the API says it. Nothing was executed in any of these.
extension Problem {
    /// nil for outcomes of commands that were executed.
    init?(refusal outcome: KeyValue.Outcome) {
        switch outcome {
        case .conditionFailed(let revision, let current):
            self = .preconditionFailed(revision: revision, current: current?.modRevision)
        case .notANumber(let revision, let problem, let operation):
            let place = operation.map { "Operation \($0): " } ?? ""
            self.init(409, .notANumber, "no number", "\(place)\(problem.description); nothing was changed.")
            self.revision = revision
        case .leaseExists(let status):
            self.init(409, .conflict, "the lease exists", "There is a lease \(LeaseText.text(status.id)) already.")
        case .leaseNotFound(let id): self = .noSuchLease(id)
        case .lockHeld(let status): self = .lockHeld(status)
        case .lockNotFound:
            self.init(
                404,
                .noSuchLock,
                "no such ticket",
                "The lock is not held, and nobody waits for it, with this token; its lease may have ended."
            )
        case .fenced(let revision, let current):
            let holder = current.map { "it is held with token \($0.holder.token)" } ?? "nobody holds it"
            self.init(
                412,
                .fenced,
                "the lock is not held with this token",
                "The fence's lock has another holder by now: \(holder). Stop what the lock protects."
            )
            self.revision = revision
        case .tooLarge(let limit):
            self.init(413, .limitExceeded, "a limit is exceeded", "Nothing was done: \(limit.description).")
        case .idempotencyMismatch:
            self.init(
                422,
                .idempotencyMismatch,
                "the Idempotency-Key was used for another request",
                "Take a new key for each request, and the same only to send the same request again."
            )
        case .invalid(let reason): self = .invalidCommand(reason)
        case .put, .deleted, .incremented, .transaction, .lease, .leasesKept, .leaseRevoked, .leasesExpired, .lock,
            .lockReleased, .replayed:
            return nil
        }
    }

    static func noSuchLease(_ id: UInt64) -> Problem {
        Problem(
            404,
            .noSuchLease,
            "no such lease",
            "There is no lease \(LeaseText.text(id)); it may have ended. Ask for a new one with POST /leases."
        )
    }

    static func lockHeld(_ status: LockStatus) -> Problem {
        Problem(
            409,
            .lockHeld,
            "the lock is held",
            "It is held with token \(status.holder.token), and \(status.waiters.count) wait; ask with wait to stand in the queue."
        ).with {
            $0.revision = status.modRevision
            $0.retryable = true
        }
    }
}

import KeyValue
import KeyValueService
import RaftNode

/// What went wrong further in, as the API says it.
extension Problem {
    init(_ error: ServiceError) {
        switch error.code {
        case .noLeader: self.init(503, .noLeader, "no leader", "")
        case .leadershipChanging: self.init(503, .leadershipChanging, "leadership is changing hands", "")
        case .overloaded: self.init(503, .overloaded, "overloaded", "")
        case .storageFull: self.init(507, .storageFull, "storage full", "")
        case .shuttingDown: self = .shuttingDown
        case .quarantined: self.init(503, .quarantined, "this node is in quarantine", "")
        case .timedOut: self.init(504, .timedOut, "timed out", "")
        case .tooStale: self.init(503, .overloaded, "this node lags behind", "")
        // The revision may not exist anywhere yet, so that another node need not be any better: the request's time was up.
        case .notCaughtUp: self.init(504, .timedOut, "the revision was not reached in time", "")
        case .noRoom: self.init(507, .storageFull, "no room", "")
        case .outcomeUnknown: self.init(504, .outcomeUnknown, "outcome unknown", "")
        }
        detail = error.description.prefix(1).uppercased() + error.description.dropFirst() + "."
        outcome = error.mayHaveExecuted ? .unknown : .notExecuted
        // What may have been executed is safe to send again only if the client knows that twice is as good as once.
        retryable = !error.mayHaveExecuted
        if status == 503 { retryAfterSeconds = 1 }
        // Room is made by people, as a rule.
        if status == 507 { retryAfterSeconds = 5 }
    }

    static func unreadable(_ error: any Error) -> Problem {
        Problem(
            500,
            .nodeFault,
            "the state cannot be read",
            "This node cannot read its state: \(error). Ask another node, and see this one's log."
        )
    }

    /// A revision that cannot be read here.
    static func unreadableRevision(_ error: HistoryError) -> Problem {
        let detail = error.description.prefix(1).uppercased() + error.description.dropFirst() + "."
        switch error {
        case .compacted(let compactRevision):
            return Problem(410, .revisionGone, "revision compacted", detail).with {
                $0.compactRevision = compactRevision
            }
        case .future(let revision):
            return Problem(400, .invalidParameter, "the revision is still to come", detail).with {
                $0.revision = revision
            }
        }
    }

    /// What reading the store threw.
    init(reading error: any Error) {
        switch error {
        case let problem as Problem: self = problem
        case let error as HistoryError: self = .unreadableRevision(error)
        case let error as ServiceError: self.init(error)
        default: self = .unreadable(error)
        }
    }

    static func noSuchKey(revision: UInt64) -> Problem {
        Problem(404, .noSuchKey, "no such key", "There is no such key at revision \(revision).").with {
            $0.revision = revision
        }
    }

    static func preconditionFailed(revision: UInt64, current: UInt64?) -> Problem {
        let detail =
            if let current {
                "The key was last modified by revision \(current); read it, decide anew, and try with its ETag."
            } else {
                "The key does not exist; create it with If-None-Match: * or without a precondition."
            }
        return Problem(412, .preconditionFailed, "precondition failed", detail).with {
            $0.revision = revision
            $0.currentRevision = current ?? 0
        }
    }

    static func invalidCommand(_ reason: InvalidCommand) -> Problem {
        let detail = reason.description
        return switch reason {
        case .keyEmpty, .keyTooLong:
            Problem(400, .invalidKey, "invalid key", detail).with { $0.limit = KeyValueLimits.maximumKeyLength }
        case .valueTooLarge: Problem(413, .valueTooLarge, "value too large", detail)
        default: Problem(400, .malformedRequest, "the cluster refused the command", detail)
        }
    }

    init(_ error: OperationError) {
        switch error.code {
        case .notLeader:
            self.init(503, .noLeader, "no leader", error.description)
            retryable = true
            retryAfterSeconds = 1
        case .busy:
            self.init(409, .conflict, "another change is under way", error.description)
            retryable = true
            retryAfterSeconds = 1
        case .invalid: self.init(409, .conflict, "the change does not fit the cluster", error.description)
        case .timedOut:
            self.init(504, .timedOut, "timed out", error.description)
            outcome = .unknown
        case .shuttingDown: self = .shuttingDown
        case .unreachable:
            // The connection may have broken behind the request as well as in front of it.
            self.init(503, .noLeader, "unreachable", error.description)
            outcome = .unknown
            retryAfterSeconds = 1
        }
    }
}

extension Problem {
    /// A write was answered as another kind of write, which cannot be.
    static var unfitOutcome: Problem {
        Problem(500, .nodeFault, "internal error", "The write was answered as another kind of write; see the log.")
            .with { $0.outcome = .unknown }
    }
}

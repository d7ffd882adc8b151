/// What only who checks a core looks at: simulators, explorers and tests.
extension Core {
    /// The end of the log.
    package var last: LogPosition { log.last }

    /// A snapshot is being installed.
    package var isRestoring: Bool { restoring != nil }

    /// What a leader believes of the logs of its followers: each holds `match` and is sent `next`.
    package var replication: [(id: ServerID, match: LogIndex, next: LogIndex)] {
        peers.map { ($0.id, $0.match, $0.next) }
    }
}

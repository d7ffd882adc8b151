import Glibc
import Logging

/// How many files, and so connections, this process may have open.
enum OpenFileLimit {
    /// Left for peers, the log, the state, snapshots, and for connections that are told that there are too many.
    private static let reserve = 1_024

    /// Raises the soft limit to the hard one: shells start programs with 1,024 for the sake of `select`, which is not used here.
    ///
    /// - Parameter wanted: how many clients the node would take.
    /// - Returns: how many it can take, so that it never runs out of files in the middle of its work; less than `wanted` is logged.
    static func raise(connections wanted: Int, logger: Logger) -> Int {
        guard var limit = current() else { return wanted }
        if limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max
            // Refused, it stays as it was, which is what counts below.
            _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }
        let files = Int(clamping: current()?.rlim_cur ?? limit.rlim_cur)
        let possible = max(1, files - min(reserve, files / 2))
        guard possible < wanted else { return wanted }
        logger.notice(
            "the limit of open files bounds the connections; raise the hard limit (ulimit -Hn, LimitNOFILE=) for more",
            metadata: ["limit": "\(files)", "connections": "\(possible)", "wanted": "\(wanted)"]
        )
        return possible
    }

    private static func current() -> rlimit? {
        var limit = rlimit()
        return getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 ? limit : nil
    }
}

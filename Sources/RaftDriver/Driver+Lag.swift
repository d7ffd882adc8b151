internal import Raft

extension Driver {
    /// The entries of its leader that this server does not hold durably, or that are committed and not applied here, whichever are more; nil
    /// while it knows no leader.
    ///
    /// A leader of an earlier version does not say where its log ends: then only what is known to be committed counts.
    package var lag: UInt64? {
        guard core.leaderID != nil else { return nil }
        let committed = max(core.commitIndex, core.leaderLog?.commit ?? 0)
        let missing = core.leaderLog.map { $0.last - min($0.last, core.stableIndex) } ?? 0
        return max(missing, committed - min(committed, core.appliedIndex))
    }
}

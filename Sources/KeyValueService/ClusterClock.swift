internal import Glibc
internal import KeyValue
internal import Raft
internal import Synchronization

/// The time that this node stamps into commands while it leads: milliseconds for which the cluster has had a leader, as far as the log tells.
///
/// It goes on from the time of the state, once the first entry of the own term is applied, so that all which earlier leaders stamped
/// is known; from there it advances as a clock of this machine does that counts suspension. No wall clock is asked, so that a lease
/// ends neither early nor late because one was set; while there is no leader, time stands still, to the benefit of leases. So it does while a
/// hypervisor stops the leader's whole machine, which that clock does not count: a lease may then end late, and never early.
final class ClusterClock: Sendable {
    private struct State {
        /// The term this node leads in; nil while it does not.
        var term: UInt64?
        /// Cluster time and the machine's clock at one moment; nil until the first entry of the term is applied.
        var reference: (cluster: UInt64, machine: UInt64)?
    }

    private let state = Mutex(State())
    private let machineMilliseconds: @Sendable () -> UInt64

    /// - Parameter machineMilliseconds: a clock that never goes back and goes on while the machine is suspended.
    init(machineMilliseconds: @escaping @Sendable () -> UInt64) { self.machineMilliseconds = machineMilliseconds }

    /// What it reads; nil while this node does not lead, or does not know yet where to go on. Never 0.
    var now: UInt64? {
        let machine = machineMilliseconds()
        return state.withLock { Self.reading($0, machine) }
    }

    /// The term whose leader this node is, with all that was committed before it applied; nil otherwise.
    var servingTerm: UInt64? { state.withLock { $0.reference == nil ? nil : $0.term } }

    func begin(term: UInt64) { state.withLock { $0 = State(term: term) } }

    func end() { state.withLock { $0 = State() } }

    /// An entry of `term` was applied, and the state's time is `clusterMilliseconds` now.
    func applied(term: UInt64, clusterMilliseconds: UInt64) {
        let machine = machineMilliseconds()
        state.withLock { state in
            guard state.term == term, state.reference == nil else { return }
            state.reference = (max(clusterMilliseconds, 1), machine)
        }
    }

    /// Stamps a command of this leader's. One that carries a stamp of a moment ago keeps it: it was made here, and stamping would copy it.
    func stamp(_ command: inout [UInt8]) {
        // Without a time of the leader's, the command takes place at the time of the state.
        let now = now ?? 0
        if now > 0, let stamp = Command.timestampMilliseconds(of: command), stamp <= now, now - stamp < Self.freshness {
            return
        }
        Command.stamp(&command, timestampMilliseconds: now)
    }

    private static let freshness: UInt64 = 100

    private static func reading(_ state: State, _ machine: UInt64) -> UInt64? {
        state.reference.map { $0.cluster + (machine - min(machine, $0.machine)) }
    }

    /// Milliseconds on the system's clock that counts suspension.
    @Sendable static func systemMilliseconds() -> UInt64 { systemNanoseconds() / 1_000_000 }

    @Sendable static func systemNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

import Foundation
import Synchronization

extension Process {
    private static let starting = Mutex(())

    /// Runs it, and no other at the same moment.
    ///
    /// Foundation hears of a child's end by a socket that closes with it. One that is started at the same moment inherits that socket: the
    /// end would not be heard of before both are gone.
    func runAlone() throws { try Self.starting.withLock { _ in try run() } }
}

import Foundation
import Testing

/// Runs each body on a thread of its own until all have ended; a body that throws is an issue.
///
/// A queue has no more threads than the machine has cores: bodies that wait for one another would wait for its leave to start.
func concurrently(_ bodies: (@Sendable () throws -> Void)...) {
    let group = DispatchGroup()
    for body in bodies {
        group.enter()
        Thread.detachNewThread {
            #expect(throws: Never.self) { try body() }
            group.leave()
        }
    }
    group.wait()
}

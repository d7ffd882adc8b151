import Foundation
import Synchronization

/// Ports of this machine that nobody listens on.
///
/// They are taken from below the range that the system gives to outgoing connections: a node that is down must find its port
/// free when it comes back.
enum Ports {
    private struct NoFreePort: Error {}

    private static let last = Mutex(Int.random(in: 12_000..<28_000))

    static func next() throws -> Int { try consecutive(1) }

    /// The first of some ports in a row.
    static func consecutive(_ count: Int) throws -> Int {
        for _ in 0..<1000 {
            let first = last.withLock { last in
                let first = last + count > 31_999 ? 12_000 : last + 1
                last = first + count - 1
                return first
            }
            if (first..<first + count).allSatisfy(isFree) { return first }
        }
        throw NoFreePort()
    }

    /// No socket of this machine has the port, in whatever state.
    private static func isFree(_ port: Int) -> Bool {
        let digits = String(port, radix: 16, uppercase: true)
        let ending = ":" + String(repeating: "0", count: 4 - digits.count) + digits
        return ["/proc/net/tcp", "/proc/net/tcp6"].allSatisfy { path in
            let table = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
            return !table.split(separator: "\n").dropFirst().contains { line in
                line.split(separator: " ").dropFirst().first?.hasSuffix(ending) ?? false
            }
        }
    }
}

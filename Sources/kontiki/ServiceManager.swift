import Foundation

/// Tells the service manager how this process stands: the protocol of sd_notify(3), a datagram to the socket that it names.
struct ServiceManager: Sendable {
    private let address: String

    /// Nil when no service manager waits for word (`NOTIFY_SOCKET` is not set).
    init?(environment: [String: String]) {
        guard let address = environment["NOTIFY_SOCKET"], address.hasPrefix("/") || address.hasPrefix("@") else {
            return nil
        }
        self.address = address
    }

    /// Sends `READY=1`, `STOPPING=1` or `STATUS=…` lines. A manager that cannot be reached is no reason to fail.
    func notify(_ state: String) {
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        var path = Array(address.utf8)
        guard path.count < MemoryLayout.size(ofValue: name.sun_path) else { return }
        // An abstract socket's name begins with a zero byte, written as @.
        if path[0] == UInt8(ascii: "@") { path[0] = 0 }
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path) }
        let pathOffset = MemoryLayout.size(ofValue: name.sun_family)
        let length = socklen_t(pathOffset + path.count)
        let message = Array(state.utf8)
        withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                _ = sendto(descriptor, message, message.count, Int32(MSG_NOSIGNAL), address, length)
            }
        }
    }
}

import Foundation

/// Short ways to ask, for tests that ask much.
extension RawConnection {
    func call(
        _ method: String,
        _ target: String,
        _ body: String = "",
        _ fields: String = ""
    ) async throws -> RawResponse {
        try await request(
            "\(method) \(target) HTTP/1.1\r\nHost: x\r\n\(fields)Content-Length: \(body.utf8.count)\r\n\r\n\(body)",
            toHead: method == "HEAD"
        )
    }
}

extension RawResponse {
    var json: [String: Any] {
        get throws { try JSONSerialization.jsonObject(with: Data(body)) as? [String: Any] ?? [:] }
    }
}

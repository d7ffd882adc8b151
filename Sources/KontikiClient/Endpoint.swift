/// A node's HTTP address in the form `http://host:port`, without a path.
struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    let url: String

    /// Takes `http://host:port`, `https://host:port`, or `host:port`, which means HTTP.
    init(parsing text: String) throws(ClientError) {
        var url = text
        while url.hasSuffix("/") { url.removeLast() }
        if !url.contains("://") { url = "http://" + url }
        let authority = url.drop { $0 != "/" }.dropFirst(2)
        guard url.hasPrefix("http://") || url.hasPrefix("https://"), !authority.isEmpty,
            authority.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") })
        else {
            throw ClientError(.invalidArgument, "“\(text)” is no endpoint; give one like http://localhost:8001")
        }
        self.url = url
    }

    var description: String { url }
}

/// Percent-encoding as the node decodes it: once, bytes beyond the unreserved ones of RFC 3986 §2.3 as `%XX`.
enum PercentEncoding {
    private static let digits = Array("0123456789ABCDEF".utf8)

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "~"):
            true
        default: false
        }
    }

    /// A key as a path: slashes stay. Dots are encoded where a segment is made of dots alone, because proxies collapse those.
    static func path(_ key: some Sequence<UInt8>) -> String {
        let key = Array(key)
        var text: [UInt8] = []
        text.reserveCapacity(key.count + 8)
        for segment in key.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
            if segment.startIndex > 0 { text.append(UInt8(ascii: "/")) }
            let isDots = segment.allSatisfy { $0 == UInt8(ascii: ".") }
            for byte in segment { append(byte, asIs: !isDots && byte == UInt8(ascii: "."), to: &text) }
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// A value of a query parameter.
    static func query(_ value: some Sequence<UInt8>) -> String {
        var text: [UInt8] = []
        for byte in value { append(byte, asIs: byte == UInt8(ascii: "."), to: &text) }
        return String(decoding: text, as: UTF8.self)
    }

    /// What was encoded; nil where a `%` is not followed by two digits, or the bytes are no text.
    static func decoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let value = UInt8(Substring(rest.prefix(2)), radix: 16) else { return nil }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func append(_ byte: UInt8, asIs: Bool, to text: inout [UInt8]) {
        if asIs || isUnreserved(byte) {
            text.append(byte)
        } else {
            text += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        }
    }
}

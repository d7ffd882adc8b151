/// Content types that are stored as one byte. The numbers are a part of the disk and log formats: only append.
enum ContentTypes {
    /// No content type was given.
    static let none: UInt8 = 0
    /// The content type is spelled out.
    static let spelledOut: UInt8 = 255

    private static let interned: [String] = [
        "application/octet-stream",
        "text/plain",
        "text/plain; charset=utf-8",
        "application/json",
        "application/x-www-form-urlencoded",
        "text/html",
        "application/xml",
        "application/x-ndjson",
        "application/yaml",
        "text/tab-separated-values",
        "text/plain;charset=utf-8",
        "application/json; charset=utf-8",
    ]

    /// ``none``, the number of a common type, or ``spelledOut``.
    static func identifier(of contentType: String?) -> UInt8 {
        guard let contentType else { return none }
        guard let index = interned.firstIndex(of: contentType) else { return spelledOut }
        return UInt8(index + 1)
    }

    /// Whether `identifier` needs no bytes of its own.
    static func isInterned(_ identifier: UInt8) -> Bool { identifier >= 1 && Int(identifier) <= interned.count }

    /// The type behind a number for which ``isInterned(_:)`` holds, else nil.
    static func name(of identifier: UInt8) -> String? { isInterned(identifier) ? interned[Int(identifier) - 1] : nil }
}

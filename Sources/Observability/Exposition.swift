/// Prometheus' text format, version 0.0.4, as it is written.
public struct Exposition: Sendable {
    public enum Kind: String, Sendable { case counter, gauge, histogram }

    /// What the answer's `Content-Type` says.
    public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    public private(set) var bytes: [UInt8] = []
    private var name = ""
    private var begun: Set<String> = []
    private var isHidden = false

    public init() { bytes.reserveCapacity(16 << 10) }

    /// Begins a family: its samples follow. A name that was there before hides what follows, since a family must be in one piece.
    ///
    /// - Parameter name: made of letters, digits, `_` and `:`; anything else becomes `_`.
    public mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
        self.name = Self.sanitized(name)
        isHidden = !begun.insert(self.name).inserted
        guard !isHidden else { return }
        append("# HELP \(self.name) \(Self.escaped(help, quotes: false))\n# TYPE \(self.name) \(kind.rawValue)\n")
    }

    public mutating func sample(_ labels: MetricsRegistry.Labels = [], _ value: some BinaryInteger) {
        sample("", labels, "\(value)")
    }

    public mutating func sample(_ labels: MetricsRegistry.Labels = [], _ value: Double) {
        sample("", labels, Self.number(value))
    }

    public mutating func sample(_ labels: MetricsRegistry.Labels = [], _ histogram: Histogram) {
        // Read once: the count must be the sum of the buckets, whatever is observed meanwhile.
        var count: UInt64 = 0
        for (index, amount) in histogram.counts.enumerated() {
            count += amount
            let bound =
                index < histogram.bounds.count ? Self.number(Double(histogram.bounds[index]) * histogram.scale) : "+Inf"
            sample("_bucket", labels + [("le", bound)], "\(count)")
        }
        sample("_sum", labels, Self.number(Double(histogram.sum) * histogram.scale))
        sample("_count", labels, "\(count)")
    }

    /// A family of one sample without labels.
    public mutating func gauge(_ name: String, _ help: String, _ value: some BinaryInteger) {
        begin(name, .gauge, help)
        sample([], value)
    }

    public mutating func gauge(_ name: String, _ help: String, _ value: Double) {
        begin(name, .gauge, help)
        sample([], value)
    }

    public mutating func gauge(_ name: String, _ help: String, _ value: Bool) {
        gauge(name, help, value ? 1 : 0)
    }

    public mutating func counter(_ name: String, _ help: String, _ value: some BinaryInteger) {
        begin(name, .counter, help)
        sample([], value)
    }

    private mutating func sample(_ suffix: String, _ labels: MetricsRegistry.Labels, _ value: String) {
        guard !isHidden else { return }
        append(name + suffix)
        if !labels.isEmpty {
            let parts = labels.map { "\(Self.sanitized($0.name))=\"\(Self.escaped($0.value, quotes: true))\"" }
            append("{" + parts.joined(separator: ",") + "}")
        }
        append(" \(value)\n")
    }

    private mutating func append(_ text: String) { bytes += text.utf8 }

    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
        if let whole = Int64(exactly: value), abs(whole) < 1 << 53 { return "\(whole)" }
        return "\(value)"
    }

    static func escaped(_ text: String, quotes: Bool) -> String {
        var escaped = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": escaped += "\\\\"
            case "\n": escaped += "\\n"
            case "\"" where quotes: escaped += "\\\""
            default: escaped.unicodeScalars.append(character)
            }
        }
        return escaped
    }

    static func sanitized(_ name: String) -> String {
        var text = ""
        for scalar in name.unicodeScalars {
            let isLetter =
                ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar) || scalar == "_" || scalar == ":"
            let isDigit = ("0"..."9").contains(scalar)
            if text.isEmpty, isDigit { text += "_" }
            if isLetter || isDigit { text.unicodeScalars.append(scalar) } else { text += "_" }
        }
        return text.isEmpty ? "_" : text
    }
}

/// Reads Prometheus' text format 0.0.4, and refuses what the format does not allow: a family in two pieces, samples without a type, a
/// name of other characters, a label that is not escaped, the same labels twice, buckets that do not add up.
enum PrometheusText {
    struct Malformed: Error, CustomStringConvertible { var description: String }

    struct Sample {
        var name: String
        var labels: [String: String]
        var value: Double
    }

    struct Family {
        var name: String
        var help: String
        var type: String
        var samples: [Sample] = []
    }

    static func parse(_ bytes: [UInt8]) throws -> [Family] {
        guard let text = String(validating: bytes, as: UTF8.self) else { throw Malformed(description: "not UTF-8") }
        guard text.isEmpty || text.hasSuffix("\n") else { throw Malformed(description: "the last line does not end") }
        var families: [Family] = []
        var help: (name: String, text: String)?
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
            if line.hasPrefix("# HELP ") {
                let parts = line.dropFirst(7).split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
                guard help == nil, parts.count == 2 else { throw Malformed(description: "HELP: \(line)") }
                help = (String(parts[0]), try unescape(parts[1], quotes: false))
            } else if line.hasPrefix("# TYPE ") {
                let parts = line.dropFirst(7).split(separator: " ")
                guard let known = help, parts.count == 2, known.name == parts[0],
                    ["counter", "gauge", "histogram"].contains(parts[1]),
                    !families.contains(where: { $0.name == known.name })
                else { throw Malformed(description: "TYPE: \(line)") }
                families.append(Family(name: known.name, help: known.text, type: String(parts[1])))
                help = nil
            } else {
                guard help == nil, let family = families.last else { throw Malformed(description: "order: \(line)") }
                let sample = try self.sample(line)
                let suffixes = family.type == "histogram" ? ["_bucket", "_sum", "_count"] : [""]
                guard suffixes.contains(where: { family.name + $0 == sample.name }) else {
                    throw Malformed(description: "a sample of another family: \(line)")
                }
                families[families.count - 1].samples.append(sample)
            }
        }
        for family in families { try check(family) }
        return families
    }

    private static func check(_ family: Family) throws {
        guard isName(family.name, colons: true) else { throw Malformed(description: "name \(family.name)") }
        let identities = family.samples.map { "\($0.name) \($0.labels.sorted { $0.key < $1.key })" }
        guard Set(identities).count == identities.count else { throw Malformed(description: "twice in \(family.name)") }
        if family.type == "counter", family.samples.contains(where: { $0.value < 0 }) {
            throw Malformed(description: "a counter below 0: \(family.name)")
        }
        guard family.type == "histogram" else { return }
        let groups = Dictionary(grouping: family.samples) { sample in
            "\(sample.labels.filter { $0.key != "le" }.sorted { $0.key < $1.key })"
        }
        for group in groups.values {
            let buckets = group.filter { $0.name == family.name + "_bucket" }
            let bounds = buckets.compactMap { $0.labels["le"].flatMap(number) }
            guard bounds.count == buckets.count, zip(bounds, bounds.dropFirst()).allSatisfy({ $0 < $1 }),
                bounds.last == .infinity, zip(buckets, buckets.dropFirst()).allSatisfy({ $0.value <= $1.value }),
                group.filter({ $0.name == family.name + "_sum" }).count == 1,
                group.first(where: { $0.name == family.name + "_count" })?.value == buckets.last?.value
            else { throw Malformed(description: "the buckets of \(family.name)") }
        }
    }

    private static func sample(_ line: Substring) throws -> Sample {
        let malformed = Malformed(description: "sample: \(line)")
        var rest = line
        let name = String(rest.prefix { $0 != "{" && $0 != " " })
        rest = rest.dropFirst(name.count)
        guard isName(name, colons: true) else { throw malformed }
        var labels: [String: String] = [:]
        if rest.first == "{" {
            rest = rest.dropFirst()
            while rest.first != "}" {
                let label = String(rest.prefix { $0 != "=" })
                rest = rest.dropFirst(label.count)
                guard isName(label, colons: false), rest.hasPrefix("=\"") else { throw malformed }
                rest = rest.dropFirst(2)
                var value = ""
                while let next = rest.first, next != "\"" {
                    value.append(next)
                    rest = rest.dropFirst()
                    if next == "\\", let escaped = rest.first {
                        value.append(escaped)
                        rest = rest.dropFirst()
                    }
                }
                guard rest.first == "\"", labels[label] == nil else { throw malformed }
                labels[label] = try unescape(value[...], quotes: true)
                rest = rest.dropFirst()
                if rest.first == "," { rest = rest.dropFirst() } else if rest.first != "}" { throw malformed }
            }
            rest = rest.dropFirst()
        }
        guard rest.first == " ", let value = number(String(rest.dropFirst())) else { throw malformed }
        return Sample(name: name, labels: labels, value: value)
    }

    private static func number(_ text: String) -> Double? {
        switch text {
        case "+Inf": .infinity
        case "-Inf": -.infinity
        case "NaN": .nan
        default: text.allSatisfy { "0123456789.e+-".contains($0) } ? Double(text) : nil
        }
    }

    private static func isName(_ text: String, colons: Bool) -> Bool {
        guard let first = text.unicodeScalars.first, !("0"..."9").contains(first) else { return false }
        return text.unicodeScalars.allSatisfy { scalar in
            ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar)
                || scalar == "_"
                || (colons && scalar == ":")
        }
    }

    private static func unescape(_ text: Substring, quotes: Bool) throws -> String {
        var (result, isEscaped) = ("", false)
        for character in text {
            switch (isEscaped, character) {
            case (true, "\\"): result += "\\"
            case (true, "n"): result += "\n"
            case (true, "\"") where quotes: result += "\""
            case (true, _): throw Malformed(description: "an unknown escape in \(text)")
            case (false, "\\"): break
            default: result.append(character)
            }
            isEscaped = !isEscaped && character == "\\"
        }
        guard !isEscaped else { throw Malformed(description: "an escape at the end of \(text)") }
        return result
    }
}

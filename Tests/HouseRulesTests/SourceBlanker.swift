/// Replaces comments and the contents of string literals by blanks; line breaks stay, and so do interpolations' parentheses.
struct SourceBlanker {
    private let text: [Character]
    private var position = 0
    private var result = ""

    static func blank(_ source: String) -> String {
        var blanker = SourceBlanker(text: Array(source))
        blanker.run(untilParenthesis: false)
        return blanker.result
    }

    private init(text: [Character]) { self.text = text }

    private func peek(_ offset: Int = 0) -> Character? {
        position + offset < text.count ? text[position + offset] : nil
    }

    private mutating func keep() {
        result.append(text[position])
        position += 1
    }

    private mutating func drop(_ count: Int = 1) {
        for _ in 0..<count where position < text.count {
            result.append(text[position].isNewline ? text[position] : " ")
            position += 1
        }
    }

    /// - Parameter untilParenthesis: inside an interpolation: stop before the parenthesis that closes it.
    private mutating func run(untilParenthesis: Bool) {
        var depth = 0
        while let character = peek() {
            switch character {
            case "/" where peek(1) == "/":
                while let next = peek(), !next.isNewline { drop() }
            case "/" where peek(1) == "*":
                blockComment()
            case "\"":
                string(pounds: 0)
            case "#":
                var pounds = 0
                while peek(pounds) == "#" { pounds += 1 }
                if peek(pounds) == "\"" {
                    drop(pounds)
                    string(pounds: pounds)
                } else {
                    keep()
                }
            case "(":
                depth += 1
                keep()
            case ")" where untilParenthesis && depth == 0:
                return
            case ")":
                depth -= 1
                keep()
            default: keep()
            }
        }
    }

    private mutating func blockComment() {
        var depth = 0
        repeat {
            if peek() == "/", peek(1) == "*" {
                depth += 1
                drop(2)
            } else if peek() == "*", peek(1) == "/" {
                depth -= 1
                drop(2)
            } else {
                drop()
            }
        } while depth > 0 && peek() != nil
    }

    /// At the opening quote.
    private mutating func string(pounds: Int) {
        let isMultiline = peek(1) == "\"" && peek(2) == "\"" && !(pounds == 0 && peek(3) == "\"" && peek(4) != "\"")
        let quotes = isMultiline ? 3 : 1
        drop(quotes)
        while let character = peek() {
            if character == "\\", has("#", pounds, at: 1) {
                let afterEscape = peek(1 + pounds)
                drop(2 + pounds)
                guard afterEscape == "(" else { continue }
                run(untilParenthesis: true)
                drop()
            } else if character == "\"", has("\"", quotes, at: 0), has("#", pounds, at: quotes) {
                drop(quotes + pounds)
                return
            } else {
                drop()
            }
        }
    }

    private func has(_ character: Character, _ count: Int, at offset: Int) -> Bool {
        (0..<count).allSatisfy { peek(offset + $0) == character }
    }
}

import Testing

@Suite("The scanner of sources")
struct SourceBlankerTests {
    @Test(
        "Comments and strings are blanked, code stays",
        arguments: [
            ("let a = 1 // try!", "let a = 1        "),
            (#"f("try!", b)"#, "f(      , b)"),
            (#"f("a\(g("x") + h)b")"#, "f(    g(   ) + h   )"),
            ("/* a /* b */ c */x", "                 x"),
            ("let s = #\"a\\(b)\"# + c", "let s =           + c"),
            ("\"\" + a", "   + a"),
        ]
    )
    func blanks(_ source: String, _ code: String) {
        #expect(SourceBlanker.blank(source) == code)
    }

    @Test("A multi-line string keeps the count of lines")
    func multiline() {
        let source = "let a = \"\"\"\n    func f() { \\(g(1)) \"quoted\"\n    \"\"\"\nlet b = 2"
        let code = SourceBlanker.blank(source)
        #expect(code.split(separator: "\n", omittingEmptySubsequences: false).count == 4)
        #expect(!code.contains("func") && code.contains("g(1)") && code.hasSuffix("let b = 2"))
    }
}

import Observability

/// Answers by status code. Counting is one addition: the counters are looked up by the code's number.
struct RequestCounters: Sendable {
    private static let codes = [
        200, 201, 204, 304, 307, 400, 403, 404, 405, 408, 409, 410, 411, 412, 413, 415, 417, 431, 500, 501, 503,
        504, 507,
    ]

    private let byCode: [Counter]

    init(_ registry: MetricsRegistry) {
        func counter(_ code: String) -> Counter {
            registry.counter(
                "kontiki_http_answers_total",
                help: "Answers to HTTP requests, by status code.",
                labels: [("code", code)]
            )
        }
        var byCode = [Counter](repeating: counter("other"), count: 500)
        for code in Self.codes { byCode[code - 100] = counter("\(code)") }
        self.byCode = byCode
    }

    func count(_ status: Int) {
        // Codes below 200 are no answers yet.
        if (200..<600).contains(status) { byCode[status - 100].add() }
    }
}

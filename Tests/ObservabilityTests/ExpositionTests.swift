import CoreMetrics
import Testing

@testable import Observability

@Suite("Metrics and their text") struct ExpositionTests {
    @Test("Counters, gauges and histograms come out as the format demands, whatever their labels hold")
    func wholeText() throws {
        let registry = MetricsRegistry()
        let nasty = "a \"quoted\\ \n line, {x=\"y\"} é"
        registry.counter("kontiki_requests_total", help: "Requests \\ so far\nof all kinds.", labels: [("code", nasty)])
            .add(3)
        registry.counter("kontiki_requests_total", help: "Requests", labels: [("code", "204")]).add()
        registry.gauge("kontiki_depth", help: "Depth.").set(-1.5)
        let histogram = registry.histogram("kontiki_wait_seconds", help: "Waiting.", .durations())
        for nanoseconds in [0, 99_000, 100_000, 100_001, 3_000_000, 1 << 50] as [UInt64] {
            histogram.observe(nanoseconds)
        }
        registry.collect { $0.gauge("kontiki_live", "Seen when asked.", true) }
        let families = try PrometheusText.parse(registry.text())
        #expect(
            families.map(\.name) == ["kontiki_requests_total", "kontiki_depth", "kontiki_wait_seconds", "kontiki_live"]
        )
        #expect(families[0].help == "Requests \\ so far\nof all kinds.")
        #expect(families[0].samples.map(\.value) == [3, 1])
        #expect(families[0].samples[0].labels == ["code": nasty])
        #expect(families[1].samples.map(\.value) == [-1.5])
        let buckets = families[2].samples.filter { $0.name.hasSuffix("_bucket") }
        #expect(buckets.first?.labels == ["le": "0.0001"])
        #expect(buckets.first?.value == 3)
        #expect(buckets.last?.labels == ["le": "+Inf"])
        #expect(buckets.last?.value == 6)
        #expect(families[3].samples.map(\.value) == [1])
    }

    @Test("The same name and labels are the same metric; a name has one kind and one place")
    func identity() throws {
        let registry = MetricsRegistry()
        registry.counter("x_total", help: "x").add()
        registry.counter("x_total", help: "x").add()
        registry.gauge("x_total", help: "x").set(7)
        registry.collect { $0.gauge("x_total", "again", 9) }
        let families = try PrometheusText.parse(registry.text())
        #expect(families.count == 1)
        #expect(families.first?.samples.map(\.value) == [2])
    }

    @Test("Names that the format does not allow are made into some that it does")
    func names() throws {
        let registry = MetricsRegistry()
        registry.gauge("9 lives-of.a", help: "", labels: [("la bel", "v")]).set(.infinity)
        registry.gauge("", help: "").set(.nan)
        let families = try PrometheusText.parse(registry.text())
        #expect(families.map(\.name) == ["_9_lives_of_a", "_"])
    }

    @Test("What libraries measure through swift-metrics is in the text")
    func libraries() throws {
        let registry = MetricsRegistry()
        let factory = RegistryMetricsFactory(registry)
        Counter(label: "hb.requests", dimensions: [("status", "200")], factory: factory).increment(by: 2)
        FloatingPointCounter(label: "float", dimensions: [], factory: factory).increment(by: 0.5)
        Meter(label: "meter", dimensions: [], factory: factory).set(4)
        Timer(label: "took", dimensions: [], factory: factory).recordNanoseconds(1_000_000)
        Recorder(label: "sizes", dimensions: [], aggregate: true, factory: factory).record(-3.5)
        Recorder(label: "sizes", dimensions: [("kind", "nan")], aggregate: true, factory: factory).record(Double.nan)
        let families = try PrometheusText.parse(registry.text())
        #expect(families.first { $0.name == "swift_hb_requests_total" }?.samples.first?.value == 2)
        #expect(families.first { $0.name == "swift_took_seconds" }?.samples.contains { $0.value == 0.001 } == true)
    }

    @Test("Threads count together, and a text made meanwhile is sound")
    func threads() async throws {
        let registry = MetricsRegistry()
        let counter = registry.counter("n_total", help: "n")
        let gauge = registry.gauge("g", help: "g")
        let histogram = registry.histogram("h", help: "h", .counts(upTo: 64))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    for number in 0..<20_000 as Range<UInt64> {
                        counter.add()
                        gauge.add(1)
                        histogram.observe(number % 100)
                    }
                }
            }
            group.addTask { for _ in 0..<50 { _ = try PrometheusText.parse(registry.text()) } }
            try await group.waitForAll()
        }
        #expect(counter.value == 80_000)
        #expect(gauge.value == 80_000)
        #expect(histogram.counts.reduce(0, +) == 80_000)
    }
}

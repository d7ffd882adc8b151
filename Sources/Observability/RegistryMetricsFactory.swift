public import CoreMetrics

/// Puts what libraries measure through swift-metrics into a registry: `MetricsSystem.bootstrap(RegistryMetricsFactory(registry))`.
///
/// Each label becomes a metric's name behind `swift_`, dimensions become labels. A timer is a histogram in seconds, a recorder a
/// histogram of whole numbers or, without aggregation, a gauge.
public struct RegistryMetricsFactory: MetricsFactory {
    private let registry: MetricsRegistry

    public init(_ registry: MetricsRegistry) { self.registry = registry }

    private static let help = "Measured by a library."

    private func labels(_ dimensions: [(String, String)]) -> MetricsRegistry.Labels {
        dimensions.map { (name: $0.0, value: $0.1) }
    }

    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        CounterBridge(registry.counter("swift_\(label)_total", help: Self.help, labels: labels(dimensions)))
    }

    public func makeFloatingPointCounter(
        label: String,
        dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        GaugeBridge(registry.gauge("swift_\(label)", help: Self.help, labels: labels(dimensions)))
    }

    public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        GaugeBridge(registry.gauge("swift_\(label)", help: Self.help, labels: labels(dimensions)))
    }

    public func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        guard aggregate else {
            return GaugeBridge(registry.gauge("swift_\(label)", help: Self.help, labels: labels(dimensions)))
        }
        return HistogramBridge(
            registry.histogram(
                "swift_\(label)",
                help: Self.help,
                labels: labels(dimensions),
                .counts(upTo: 1 << 30)
            )
        )
    }

    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        HistogramBridge(
            registry.histogram(
                "swift_\(label)_seconds",
                help: Self.help,
                labels: labels(dimensions),
                .durations()
            )
        )
    }

    // What was measured stays.
    public func destroyCounter(_ handler: any CounterHandler) {}
    public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    public func destroyMeter(_ handler: any MeterHandler) {}
    public func destroyRecorder(_ handler: any RecorderHandler) {}
    public func destroyTimer(_ handler: any TimerHandler) {}
}

private final class CounterBridge: CounterHandler {
    private let counter: Counter

    init(_ counter: Counter) { self.counter = counter }

    func increment(by amount: Int64) { if amount > 0 { counter.add(UInt64(amount)) } }

    func reset() { counter.reset() }
}

private final class GaugeBridge: MeterHandler, RecorderHandler, FloatingPointCounterHandler {
    private let gauge: Gauge

    init(_ gauge: Gauge) { self.gauge = gauge }

    func set(_ value: Int64) { gauge.set(Double(value)) }
    func set(_ value: Double) { gauge.set(value) }
    func increment(by amount: Double) { gauge.add(amount) }
    func decrement(by amount: Double) { gauge.add(-amount) }
    func record(_ value: Int64) { gauge.set(Double(value)) }
    func record(_ value: Double) { gauge.set(value) }
    func reset() { gauge.set(0) }
}

private final class HistogramBridge: RecorderHandler, TimerHandler {
    private let histogram: Histogram

    init(_ histogram: Histogram) { self.histogram = histogram }

    func record(_ value: Int64) { histogram.observe(UInt64(max(0, value))) }
    func record(_ value: Double) { histogram.observe(value >= 0 ? UInt64(min(value, 1e18)) : 0) }
    func recordNanoseconds(_ duration: Int64) { histogram.observe(UInt64(max(0, duration))) }
}

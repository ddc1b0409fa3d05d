"""Apache Kafka for development, tests and benches: one or three brokers on loopback, data in one folder.

Needs Java 17 or newer and Maven, and nothing else: Kafka itself comes from Maven Central, once.
"""

from deploy.kafka.cluster import BrokerStatus, Cluster
from deploy.kafka.errors import ClusterError
from deploy.kafka.options import Options, Security, TlsFiles

__all__ = ["BrokerStatus", "Cluster", "ClusterError", "Options", "Security", "TlsFiles"]

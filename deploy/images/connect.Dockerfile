# Kafka Connect with Debezium for PostgreSQL and the Avro converter: the jars of deploy/local/pom.xml, nothing else.
# Built from the checkout's top: docker build -f deploy/images/connect.Dockerfile .

# Maven, run by the very code of `thalweg setup`: it checks each jar against deploy/local/parts.lock.json and gives the
# converter the service file that Connect finds it by.
FROM python:3.11-slim-bookworm AS jars
RUN apt-get update && apt-get install -y --no-install-recommends maven && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements.lock ./
COPY deploy/images/packages.py deploy/images/connect.packages.txt deploy/images/
RUN --mount=type=cache,target=/root/.cache/pip \
    python deploy/images/packages.py requirements.lock deploy/images/connect.packages.txt > chosen.lock \
    && pip install --disable-pip-version-check --require-hashes --only-binary :all: -r chosen.lock
COPY deploy/__init__.py deploy/
COPY deploy/local deploy/local
RUN --mount=type=cache,target=/root/.m2 THALWEG_CACHE=/cache python -c "import shutil; \
from deploy.local.parts import prepare; \
[shutil.copytree(place, '/plugins', dirs_exist_ok=True) for place in prepare(['debezium', 'avro-converter']).values()]"

FROM apache/kafka:4.3.1
COPY --from=jars /plugins /opt/thalweg/plugins
# The account of the Kafka image, by number.
USER 1000:1000
EXPOSE 8083
ENTRYPOINT ["java", "-cp", "/opt/kafka/libs/*", "-Dlog4j2.configurationFile=/etc/thalweg/log4j2.properties", "org.apache.kafka.connect.cli.ConnectDistributed"]
CMD ["/etc/thalweg/connect.properties"]
# Not `/`: that answers before the worker has joined its group and can take a connector. bash, for the image has no curl.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8083; printf 'GET /connectors HTTP/1.0\\r\\n\\r\\n' >&3; read -r line <&3; [[ $line == *' 200'* ]]"]

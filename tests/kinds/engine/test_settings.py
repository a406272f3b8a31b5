"""Settings from the environment and from Secrets."""

import pytest

from lucid_storage.models.settings import Settings, SettingsError, StoreSettings


def test_an_address_is_made_from_its_parts_with_the_password_escaped() -> None:
    read = StoreSettings.read(
        {
            "MONGODB_HOST": "m1,m2:27018",
            "MONGODB_USERNAME": "lucid",
            "MONGODB_PASSWORD": "p@ss/word",
            "MONGODB_REPLICA_SET": "rs0",
            "REDIS_HOST": "r",
            "REDIS_PASSWORD": "a:b",
            "ELASTICSEARCH_HOST": "e",
        }
    )
    assert read.mongodb() == "mongodb://lucid:p%40ss%2Fword@m1:27017,m2:27018/?replicaSet=rs0"
    assert read.redis() == "redis://:a%3Ab@r:6379/0"
    assert read.elasticsearch() == "http://e:9200"


def test_a_whole_address_wins_and_its_alias_works() -> None:
    read = StoreSettings.read({"REDIS_URI": "redis://one", "MONGODB_URI": "mongodb://x", "MONGODB_HOST": "y"})
    assert (read.redis(), read.mongodb()) == ("redis://one", "mongodb://x")


def test_an_empty_variable_is_an_absent_one() -> None:
    assert StoreSettings.read({"MONGODB_URI": ""}).mongodb() is None


def test_a_bad_setting_is_named_in_a_sentence_without_its_value() -> None:
    with pytest.raises(SettingsError, match="WORKERS") as refused:
        Settings.read({"WORKERS": "many", "MONGODB_PASSWORD": "hunter2"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("text", ["02:00", "2:00-6:00", "24:00-06:00", "02:60-03:00", "02:00-02:00", "a-b"])
def test_a_balancer_window_is_two_different_times_of_day(text: str) -> None:
    assert Settings.read({"BALANCER_WINDOW": "22:00-06:00"}).balancer_window == "22:00-06:00"
    assert Settings.read({"BALANCER_WINDOW": ""}).balancer_window is None
    with pytest.raises(SettingsError, match="BALANCER_WINDOW"):
        Settings.read({"BALANCER_WINDOW": text})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKUP_S3_ENDPOINT", "s3.example.com"),
        ("BACKUP_S3_ENDPOINT", "http://127.0.0.1:99999"),
        ("BACKUP_S3_ENDPOINT", "http://a..b:9000"),
        ("BACKUP_S3_REGION", "ü\n"),
        ("BACKUP_STORAGE_PATH", "../x"),
        ("BACKUP_STORAGE_PATH", "a//b"),
        ("BACKUP_STORAGE_PATH", "a/b\n"),
    ],
)
def test_a_place_for_backups_that_is_none_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.read({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKUP_S3_ENDPOINT", "http://minio:9000/"),
        ("BACKUP_S3_REGION", "eu-central-1"),
        ("BACKUP_STORAGE_PATH", "/srv/our backups/"),
        ("BACKUP_STORAGE_PATH", "/"),
    ],
)
def test_a_place_for_backups_that_is_one_is_taken(name: str, value: str) -> None:
    assert getattr(Settings.read({name: value}), name.lower()) == value


def test_a_bucket_prefix_leads_to_nobody_else() -> None:
    with pytest.raises(SettingsError):
        Settings.read({"SERVED_NAMESPACES": '{"a": {"bucketPrefix": "../b"}}'})


def test_secrets_do_not_show_in_a_repr() -> None:
    assert "hunter2" not in repr(
        StoreSettings.read({"MONGODB_PASSWORD": "hunter2", "REDIS_URL": "redis://:hunter2@r"})
    )


def test_only_the_operators_own_namespace_is_served_by_default() -> None:
    read = Settings.read({"POD_NAMESPACE": "system"})
    assert read.served("system") is not None
    assert read.served("other") is None


def test_served_namespaces_have_database_patterns_and_a_wildcard() -> None:
    text = '{"lucid": {"databases": ["lucid_*"]}, "*": {"databases": ["shared"]}}'
    read = Settings.read({"SERVED_NAMESPACES": text})
    lucid, other = read.served("lucid"), read.served("other")
    assert lucid is not None
    assert other is not None
    assert (lucid.allows("lucid_main"), lucid.allows("other")) == (True, False)
    assert other.allows("shared")
    assert lucid.allows_index("anything")


def test_indices_and_keys_of_a_served_namespace_can_be_narrowed() -> None:
    served = Settings.read({"SERVED_NAMESPACES": '{"a": {"indices": ["a-*"], "keys": ["a:*"]}}'}).served("a")
    assert served is not None
    assert (served.allows_index("a-logs"), served.allows_index("b-logs")) == (True, False)
    assert (served.allows_keys("a:{id}"), served.allows_keys("b:{id}")) == (True, False)


@pytest.mark.parametrize("text", ["[]", "{", '{"ns": {"database": []}}'])
def test_served_namespaces_that_cannot_be_read_stop_the_start(text: str) -> None:
    with pytest.raises(SettingsError):
        Settings.read({"SERVED_NAMESPACES": text})

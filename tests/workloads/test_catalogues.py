import pytest

from common.cli import UserError
from workloads.standin import packaged_data
from workloads.standin.catalogues import catalogue, locale_folders, translations

HEADER = 'msgid ""\nmsgstr ""\n"Language: de\\n"\n'
TEXT = f"""# A comment.
{HEADER}
#: file.py:1
msgid "Page"
msgstr "Seite"

#, python-format
msgid ""
"Two lines of\\n"
"%(name)s, \\"quoted\\""
msgstr ""
"Zwei Zeilen von\\n"
"%(name)s, „zitiert“"

#, fuzzy
msgid "Pages"
msgstr "Seite"

#, python-format, fuzzy
msgid "Images"
msgstr "Bild"

msgid "No translation"
msgstr ""

msgid "One file"
msgid_plural "Files"
msgstr[0] "Eine Datei"
msgstr[1] "Dateien"

msgctxt "verb"
msgid "Open"
msgstr "Öffnen"

msgctxt "adjective"
msgid "Open"
msgstr "Offen"

#~ msgid "Obsolete"
#~ msgstr "Überholt"

msgid "Last"
msgstr "Letzte" """


@pytest.mark.parametrize("ending", ["", "\n", "\n\n"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_a_catalogue_has_its_translated_messages_but_no_guesses_or_plurals(line, ending):
    assert catalogue(TEXT.strip().replace("\n", line) + ending) == {
        "Page": "Seite",
        'Two lines of\n%(name)s, "quoted"': "Zwei Zeilen von\n%(name)s, „zitiert“",
        "Open": "Öffnen",
        "Last": "Letzte",
    }


def write(folder, name, **messages):
    entries = [f'msgid "{message}"\nmsgstr "{text}"\n' for message, text in messages.items()]
    (folder / "de" / "LC_MESSAGES").mkdir(parents=True, exist_ok=True)
    (folder / "de" / "LC_MESSAGES" / name).write_text("\n".join([HEADER, *entries]), "utf-8")


def test_of_several_catalogues_the_first_counts(tmp_path):
    first, second = tmp_path / "a" / "locale", tmp_path / "b" / "locale"
    write(first, "djangojs.po", Page="Blatt", Save="Speichern")
    write(first, "django.po", Page="Seite")
    write(second, "django.po", Page="Buchseite", Close="Schließen")
    assert translations([first, second], "de") == {
        "Page": "Seite",
        "Save": "Speichern",
        "Close": "Schließen",
    }
    assert translations([first, second], "fr") == {}


def test_folders_of_a_package_are_listed_in_order_and_missing_ones_named(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged_data, "DATA", tmp_path)
    package = tmp_path / "p"
    package.mkdir()
    for name in ("none", "p"):
        with pytest.raises(UserError, match=f"{name}.*requirements-data"):
            locale_folders(name)
    expected = [package / "locale", package / "admin" / "locale", package / "zone" / "locale"]
    for folder in (*expected, package / "tests" / "locale", package / "locale" / "x" / "locale"):
        folder.mkdir(parents=True)
    assert locale_folders("p") == expected

"""language: scripts at once, English by its words, the rest by the model."""

import subprocess
import sys

import pytest

from bookwheel import language

TEXTS = {
    "en": "The whale swam slowly towards the ship, and the men who were on deck watched it with fear.",
    "de": "Der Wal schwamm langsam auf das Schiff zu, und die Männer an Deck sahen ihm voller Angst zu.",
    "fr": "La baleine nageait lentement vers le navire et les hommes sur le pont la regardaient avec crainte.",
    "ru": "Кит медленно плыл к кораблю, и люди на палубе смотрели на него со страхом.",
    "ja": "鯨はゆっくりと船に向かって泳ぎ、甲板の男たちは恐れながらそれを見ていた。",
    "zh": "鲸鱼慢慢地游向那艘船，甲板上的人们恐惧地看着它。",
    "ko": "고래는 천천히 배를 향해 헤엄쳤고 갑판 위의 남자들은 두려움에 떨며 지켜보았다.",
    "th": "ปลาวาฬว่ายน้ำช้าๆไปยังเรือและผู้ชายบนดาดฟ้าเฝ้าดูด้วยความกลัว",
    "el": "Η φάλαινα κολυμπούσε αργά προς το πλοίο και οι άνδρες την κοιτούσαν με φόβο.",
    "ar": "سبح الحوت ببطء نحو السفينة وكان الرجال على سطحها يراقبونه بخوف شديد.",
}


@pytest.mark.parametrize("code", TEXTS)
def test_language_of_a_sentence(code: str) -> None:
    """A sentence is enough."""
    assert language.detect(TEXTS[code]) == code


@pytest.mark.parametrize("text", ["", "   ", "1,234.5 | 42 %", "🐳", "----\n***"])
def test_no_letters_no_language(text: str) -> None:
    """Numbers and signs have no language."""
    assert language.detect(text) == language.UNKNOWN


def test_title_page_does_not_decide() -> None:
    """A long text's language is that of its body, not of its first lines."""
    assert (
        language.detect("Titre\n\nLa baleine blanche, un roman pour les enfants.\n\n" + (TEXTS["en"] + " ") * 50)
        == "en"
    )


def test_part_has_the_language_of_the_whole() -> None:
    """A part without a language of its own, or in the same script, inherits."""
    assert language.of_part("Moby 1851", "de") == "de"
    assert language.of_part("| 12 | 34 |", "ja") == "ja"
    assert language.of_part("白鯨 一覧", "ja") == "ja"


def test_part_in_another_script_has_its_own() -> None:
    """A Japanese chapter of an English document is Japanese, an English one of a Japanese document English."""
    assert language.of_part(TEXTS["ja"], "en") == "ja"
    assert language.of_part(TEXTS["en"], "ja") == "en"
    assert language.of_part(TEXTS["ru"], "en") == "ru"


def test_the_model_is_loaded_only_when_needed() -> None:
    """English, Japanese and Chinese texts never load the model: it costs 70 MB."""
    script = (
        "import sys; from bookwheel.language import detect;"
        f" print(*[detect(text) for text in {[TEXTS[code] for code in ('en', 'ja', 'zh')]!r}],"
        " 'py3langid' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["en", "ja", "zh", "False"]

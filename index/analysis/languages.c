// Languages: which Snowball stemmer, which stop words, which letters stay.
//
// A language is named by the primary subtag of a BCP 47 tag ("pt-BR" is "pt"). "" is English, as most texts whose
// language nobody stated are, and as English stemming does other languages little harm: text and query lose the same
// endings. "und" and languages without a row are plain: folded, not stemmed, without stop words.
//
// Stop words are short lists of function words. They are indexed like any word, with their positions; only queries
// leave them out, and only while another word is left (query.c).
//
// Letters that stay ("kept") are those that a speaker takes for another letter, not for an accent: å in Swedish, ñ in
// Spanish, й in Russian. In a text of another language the same letters are folded, as there nobody can type them.
#include "index/analysis/analysis_internal.h"

#define STOPS_EN                                                                                                       \
  "a about after all also an and any are as at be because been before being between both but by can could did do "     \
  "does "                                                                                                              \
  "for from had has have he her his how i if in into is it its may more most no nor not of on or our over she should " \
  "so some such than that the their them then there these they this those through to under until up was we were what " \
  "when where which while who whom why will with would you your"
#define STOPS_DE                                                                                                        \
  "aber alle als also am an auch auf aus bei bin bis bist da damit dann das dass dein dem den denn der des die dies "   \
  "diese dieser dieses doch du durch ein eine einem einen einer eines er es für haben hat hatte ich ihr im in ist ja " \
  "kann kein keine man mein mit nach nicht noch nur ob oder ohne sein sich sie sind so über um und uns unter vom von " \
  "vor war waren was wenn wer werden wie wird wir wo zu zum zur"
#define STOPS_FR                                                                                                         \
  "à au aux avec ce ces cet cette comme dans de des donc du elle elles en est et eu être fait il ils j je l la le "    \
  "les "                                                                                                                 \
  "leur leurs lui m ma mais me même mes moi mon n ne nos notre nous on ont ou où par pas plus pour qu quand que quel " \
  "quelle qui s sa sans se ses si son sont sur t ta te tes toi ton tu un une vos votre vous y c d"
#define STOPS_ES                                                                                                        \
  "a al algo como con cuando de del desde donde dos el ella ellas ellos en entre era es esa ese eso esta está este "   \
  "esto fue ha han hasta hay la las le les lo los más me mi muy nada ni no nos o para pero por porque que qué quien " \
  "se "                                                                                                                 \
  "ser si sí sin sobre son su sus también te tiene todo tu un una uno y ya yo"
#define STOPS_IT                                                                                                        \
  "a ad agli ai al alla alle allo anche c che chi ci come con cui d da dagli dai dal dall dalla dalle de degli dei "    \
  "del "                                                                                                                \
  "dell della delle dello di dove e è ed era essere gli ha hanno ho i il in io l la le lei lo loro lui ma mi nei nel " \
  "nell nella nelle noi non o per perché più quale quando quello questa questo se si sia sono su sua sue sui sul "    \
  "sull "                                                                                                               \
  "sulla suo tra tu un una uno vi voi"
#define STOPS_PT                                                                                                          \
  "a à ao aos as às até com como da das de dela dele do dos e é ela elas ele eles em entre era essa esse esta está " \
  "este "                                                                                                                 \
  "eu foi há isso isto já lhe mais mas me mesmo meu muito na não nas nem no nos nós o onde os ou para pela pelo por " \
  "qual "                                                                                                                 \
  "quando que quem se sem ser seu seus só sua suas também te tem um uma você"
#define STOPS_NL                                                                                                       \
  "aan al als bij dan dat de der deze die dit doch door dus een en er ge geen had heb heeft het hij hoe hun ik in is " \
  "ja "                                                                                                                \
  "je kan maar me meer men met mij na naar niet nog nu of om omdat ons ook op over te tot u uit van veel voor waar "   \
  "was "                                                                                                               \
  "wat we wel werd wie wij worden zal ze zich zij zijn zo zou"
#define STOPS_SV                                                                                                          \
  "alla är att av blev bli de dem den denna det detta dig din du där då efter ej eller en er ett för från ha hade "  \
  "han "                                                                                                                  \
  "har hon hur i icke inte jag kan man med men mig min mot när nu och om oss på sig sin som så till under upp ut vad " \
  "var vara vi vid vilka vilken över"
#define STOPS_DA                                                                                                          \
  "af alle at blev da de dem den denne der det dette dig din dog du efter eller en end er et for fra ham han har "        \
  "havde "                                                                                                                \
  "hendes her hun hvad hvem hvis hvor i ikke ind jeg kan kunne man med meget men mig min må når ned nu og også om op " \
  "os "                                                                                                                   \
  "på sig sin skal som så til ud under var vi vil være"
#define STOPS_NO                                                                                                          \
  "alle at av bare ble bli da de deg dem den denne der det dette du eller en enn er et etter for fra ha hadde han "       \
  "har "                                                                                                                  \
  "hun hva hvem hvis hvor i ikke inn jeg kan man med men meg min må når nå og også om opp oss over på seg sin skal " \
  "som "                                                                                                                  \
  "så til ut var ved vi vil være"
#define STOPS_FI                                                                                                          \
  "että ei en et he hän ja jo joka jos jotka kanssa koska kuin kun kuka me mikä mitä mukaan mutta myös ne niin nyt " \
  "oli "                                                                                                                  \
  "olla on ovat se sekä sen siinä tai tämä vain vaan voi"
#define STOPS_RU                                                                                                                                                                                        \
  "а без бы был была были было быть в во вот все всё вы где да для до его ее её если есть еще ещё же за и из или им " \
  "их "                                                                                                                                                                                               \
  "к как ко когда кто ли мне мы на над не него нет ни но о об он она они оно от по под при с со так такой там то "       \
  "того "                                                                                                                                                                                           \
  "только тот ты у уже что чтобы эта эти это этот я"
#define STOPS_UK                                                                                                                                                                  \
  "а або але без був була було в вже ви від він вона вони все де для до же з за зі і й його ми на не ні " \
  "о по при про та так те ти то у це цей чи що щоб є я як"
#define STOPS_PL                                                                                                            \
  "a aby ale bo być by był była było co czy dla do gdy gdzie go i ich ja jak jako je jego jej jest już ktoś kto lub " \
  "ma "                                                                                                                     \
  "mi może na nad nie niż o od oraz po pod przez przy są się ta tak tam te tego tej ten to tu w we więc z za ze że"
#define STOPS_CS                                                                                                       \
  "a aby ale ani by byl byla být co do i jak jako je jeho jen ještě jsem jsou k kde když která které "           \
  "který na nad ne nebo není o od po pod podle pro při s se si tak také to u už v ve z za ze že"
#define STOPS_TR                                                                                                            \
  "acaba ama ancak bana bazı belki ben beni bir biz bu bunu çok çünkü da daha de defa diye en eğer gibi hem hep her " \
  "hiç "                                                                                                                   \
  "için ile ise kadar ki kim mi mı mu mü nasıl ne neden nerede niçin o olan olarak onu sen siz şey şu ve veya ya"
#define STOPS_HU                                                                                                       \
  "a az azt be de egy ez ezt és fel ha hogy hogyan is itt ki le már meg mert mi mint nagyon ne nem ő "              \
  "ott össze s sem szerint úgy vagy van volt"
#define STOPS_RO                                                                                                           \
  "a acest această al ale am are as au ca că ce cea cei cel cu cum da de deci din după e ea ei el este eu fi fost în " \
  "între îi la le mai ne nu o or pe pentru prin să sau se si și sunt un una unde unei unui"
#define STOPS_EL                                                                                                                                                                                          \
  "αλλά αν από αυτό αυτά για δε δεν εάν είναι ενώ επί η θα και κατά με μετά μη μην να ο οι όπως ότι πού που προς σε " \
  "στη "                                                                                                                                                                                               \
  "στην στο στον τα τη την της τι το τον του των ως"
#define STOPS_ID                                                                                                       \
  "ada adalah agar akan atau bagi bahwa dalam dan dari dengan di ini itu juga karena ke oleh pada saya "               \
  "sebagai sudah untuk yang"
#define STOPS_AR "من في على إلى عن مع هذا هذه ذلك التي الذي هو هي كان كانت ما لا لم أن إن أو ثم قد كل و"
#define STOPS_HI "और का की के को में से है हैं था थी थे पर यह वह ये वे ने कि भी एक तो ही या जो लिए"

static const char fr_elided[] = "l d j m n s t c qu jusqu lorsqu puisqu quoiqu";
static const char it_elided[] = "l d c un m t s v gl all dall dell nell sull coll agl dagl degl negl sugl quell quest";
static const char ca_elided[] = "l d m n s t";

static const rag_analysis_language languages[] = {
    {"en", "english", STOPS_EN, NULL, NULL, 0},
    {"ar", "arabic", STOPS_AR, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"az", NULL, NULL, NULL, NULL, RAG_LANGUAGE_TURKIC},
    {"be", NULL, NULL, "йў", NULL, RAG_LANGUAGE_FOREIGN},
    {"bg", NULL, NULL, "й", NULL, RAG_LANGUAGE_FOREIGN},
    {"ca", "catalan", NULL, NULL, ca_elided, 0},
    {"cs", NULL, STOPS_CS, NULL, NULL, 0},
    {"da", "danish", STOPS_DA, "å", NULL, 0},
    {"de", "german", STOPS_DE, NULL, NULL, RAG_LANGUAGE_GERMAN},
    {"el", "greek", STOPS_EL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"es", "spanish", STOPS_ES, "ñ", NULL, 0},
    {"et", NULL, NULL, "äöõü", NULL, 0},
    {"eu", "basque", NULL, "ñ", NULL, 0},
    {"fa", NULL, NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"fi", "finnish", STOPS_FI, "åäö", NULL, 0},
    {"fr", "french", STOPS_FR, NULL, fr_elided, 0},
    {"ga", "irish", NULL, NULL, NULL, 0},
    {"gl", NULL, NULL, "ñ", NULL, 0},
    {"he", NULL, NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"hi", "hindi", STOPS_HI, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"hu", "hungarian", STOPS_HU, NULL, NULL, 0},
    {"hy", "armenian", NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"id", "indonesian", STOPS_ID, NULL, NULL, 0},
    {"it", "italian", STOPS_IT, NULL, it_elided, 0},
    {"ja", NULL, NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"km", NULL, NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"ko", NULL, NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"lo", NULL, NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"lt", "lithuanian", NULL, NULL, NULL, 0},
    {"mk", NULL, NULL, "ѓќ", NULL, RAG_LANGUAGE_FOREIGN},
    {"my", NULL, NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"nb", "norwegian", STOPS_NO, "å", NULL, 0},
    {"ne", "nepali", NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"nl", "dutch", STOPS_NL, NULL, NULL, 0},
    {"nn", "norwegian", STOPS_NO, "å", NULL, 0},
    {"no", "norwegian", STOPS_NO, "å", NULL, 0},
    {"pl", NULL, STOPS_PL, NULL, NULL, 0},
    {"pt", "portuguese", STOPS_PT, NULL, NULL, 0},
    {"ro", "romanian", STOPS_RO, NULL, NULL, 0},
    {"ru", "russian", STOPS_RU, "й", NULL, RAG_LANGUAGE_FOREIGN},
    {"sr", "serbian", NULL, NULL, NULL, 0},
    {"sv", "swedish", STOPS_SV, "åäö", NULL, 0},
    {"ta", "tamil", NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"th", NULL, NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"tr", "turkish", STOPS_TR, NULL, NULL, RAG_LANGUAGE_TURKIC},
    {"uk", NULL, STOPS_UK, "йї", NULL, RAG_LANGUAGE_FOREIGN},
    {"yi", "yiddish", NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
    {"zh", NULL, NULL, NULL, NULL, RAG_LANGUAGE_FOREIGN},
};
static const rag_analysis_language no_language = {"und", NULL, NULL, NULL, NULL, 0};

static bool tag_byte_is_valid(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

const rag_analysis_language *rag_analysis__language(rag_slice tag) {
  if (tag.size == 0) return &languages[0];
  if (tag.size > RAG_LANGUAGE_TAG_MAX) return NULL;
  char primary[RAG_LANGUAGE_TAG_MAX + 1];
  size_t size = 0;
  bool primary_ended = false;
  for (size_t i = 0; i < tag.size; i++) {
    char c = tag.data[i];
    if (!tag_byte_is_valid(c)) return NULL;
    if (c == '-' || c == '_') primary_ended = true;
    else if (!primary_ended) primary[size++] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
  }
  primary[size] = '\0';
  if (size == 0) return NULL;
  for (uint32_t i = 0; i < RAG_COUNT_OF(languages); i++) {
    if (strcmp(primary, languages[i].tag) == 0) return &languages[i];
  }
  return &no_language;
}

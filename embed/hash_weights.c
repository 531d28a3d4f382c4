// The frozen term weights of the hash embedder.
//
// How much it tells that two texts share a word: -ln(share of documents that have it), times 16, rounded. Made once by
// counting 6,000 stems in about 110,000 pieces of English technical and general prose: package descriptions, manual
// pages, articles and reports (the mean of the three shares). The collections that benchmarks/hash_quality measures on
// were left out, so its figures hold for text that the table has not seen.
//
// It never changes, not even to mend a silly entry: vectors on disk were made with it, and its bytes are part of the
// fingerprint. Better weights are a new embedder with a new name.
#include "embed/embed_internal.h"

// clang-format off
const rag_hash_weight_row rag_embed__hash_weights[] = {
    {8, "a and for in is of the to"},
    {9, "this"},
    {12, "with"},
    {14, "on"},
    {15, "are be by that"},
    {17, "as"},
    {18, "an or"},
    {19, "1"},
    {20, "from it"},
    {21, "not"},
    {22, "can provid"},
    {24, "other packag which"},
    {25, "all file used"},
    {26, "at if s set"},
    {27, "thes"},
    {28, "command contain includ specifi use was"},
    {29, "2 2m flag run"},
    {30, "3 also librari name one valu"},
    {31, "but gcloud"},
    {32, "0 4 e follow have more only project will"},
    {33, "note see support using wide"},
    {34, "any line system"},
    {35, "data f5gcloud group its no were when you"},
    {36, "creat has list may must result some we"},
    {37, "5 bas chang default information new program servic time user"},
    {38, "availabl c million our resourc such year"},
    {39, "argument current each given http into"},
    {40, "detail format number properti than"},
    {41, "6 allow exampl net type under way"},
    {42, "31 7 access cloud dur function location option process sourc version"},
    {43, "8 application attribut been compani december enabl first like operation shar t then two what"},
    {44, "account add amount between describ end f5 fulli help i id modul most output relat stat their they total"},
    {45, "additional alpha common featur increas key level need over requir return same standard ther"},
    {46, "2019s about after call configuration development do doe interfac operat primari rate tool without work"},
    {47, "10 api both due exist expression high limit make my n part should so tabl term test well"},
    {48, "approximat code defin financial g interest languag manag network pric represent updat your"},
    {49, "beta bind complet comput cost effect field general generat many page per polici read record region "
         "securiti size specific through up us wher"},
    {50, "12 2014 9 asset build certain com compar control d different displai error get googl long order p path "
         "period report server sinc statement thos whil"},
    {51, "al case cash design documentation engin et f5core f5project gene linux non sale show start them variabl "
         "various within would"},
    {52, "2013 activiti addition being business client consolidat environment filter h incom indicat instanc log "
         "management market method object open org remov respectiv sequenc singl string target unit"},
    {53, "2015 analysis associat b befor determin directori event had however multipl out point protein purchas r "
         "simpl"},
    {54, "15 appli component condition config credit description direct either expect expens figur found full futur "
         "header implement implementation input investment item l local might mode model perform platform present "
         "previous product signal significant similar stor writ"},
    {55, "2002 2003 2012 character content could delet global instead issu loss m rang referenc remain request "
         "second separat u useful"},
    {56, "13 30 becaus below cell check class fail fair form how imag install lower possibl python stock text thre "
         "via"},
    {57, "2008 2011 abov address agreement billion capital central1 continu date less match messag prior purpos "
         "revenu several spac take utiliti want www x"},
    {58, "11 2001 2007 async balanc bill complex connection consist databas doc estimat extension free handl higher "
         "larg liabiliti made material offset original position print quarter receiv role softwar sort structur tax "
         "very written"},
    {59, "14 2006 2009 2016 2019 affect benefit customer debt decreas devic earli f find flatten framework identifi "
         "j link low much nam own parameter pass payment performanc plan reduc select small upon"},
    {60, "100 18 2010 2017 acquisition another assum averag clos cluster compil container core correspond depend "
         "develop distribution etc even fami genom identifier impact just k kernel known label last main memori "
         "optional particular section shown token trac whether window"},
    {61, "2000 25 50 against annual base begin consider cross disabl equiti exchang exclud factor fund gnu here "
         "individual map mean member next node obtain occur outstand permission principal produc profil protocol "
         "public qualifi real relativ right script segment studi subject volum"},
    {62, "20 2018 201d automatical block detect differenc entri extend faciliti flow further host index manager "
         "maximum o partial quiet recogniz search try"},
    {63, "16 across binari built caus configur correct element encod execut final iam independent load machin normal "
         "organization otherwis paid plac privat refer risk storag suggest transaction tree uri v web zone"},
    {64, "2022 23 acquir activ algorithm alternativ back cannot charg clear collection convert corporation day "
         "domain earn easy f5my fast five ignor impersonat intend json maintain necessari now offer perl plugin "
         "potential power rule tag thus usag verbositi view zero"},
    {65, "action actual alreadi among dependenci did dna document enter haskell home immediat improv inc initial "
         "involv ip look major modifi monitor pars pathwai re releas runtim short side status subsidiari true valid "
         "variant who"},
    {66, "17 19 2005 32 alwai axin basis behavior bit byte carri catenin constant contract copy discussion effectiv "
         "everi except export f5us fix foreign functionaliti game generation human important job march november "
         "obligation payabl percentag portion proceed recent research sery special step still technologi transfer "
         "wait"},
    {67, "03 24 aggregat although basic combin concentration connect custom cycl despit dividend functional gain "
         "genetic give go html import internal invest leas measur notic pattern play port reflect replac top trad "
         "uniqu"},
    {68, "1998 1999 act along appropriat attempt becom distribut don down empti exit f5command forc four greater "
         "held histori integrat itself januari java later least length manual maturiti off once overrid pair profit "
         "queri reason remot requirement reserv sampl send sign stag stream third thread tim track until w whol"},
    {69, "29 abiliti able advanc architectur avoid buffer clock combination compiler count degradation dependent "
         "disk entergi entir establish experiment extract falciparum forward git he issuanc lead mark mechanism "
         "molecular october percent permit pool progress regular screen shell site stop strong subsequent syntax "
         "task therefor thousand together whos world"},
    {70, "00 26 40 500 60 american appear believ calculat comprehensiv context currenci definition done energi ensur "
         "equivalent exact external financ goal interact interactiv international keep live mak minimum negativ old "
         "parent positiv prefix ratio recombination repositori restrict rss schedul solution static styl terminal "
         "topic typical unk unless virtual y yet"},
    {71, "01 1997 21 22 28 accept around arrai boolean cach clon commercial compatibl construct defer dynamic easi "
         "efficient equal evaluat few friend javascript left licens littl locat man matter max month multi mutant "
         "null observ pay posix predict problem qualiti regulatori relationship respons root safe sell serv taken "
         "templat temporari terminat throughout url usual yaml"},
    {72, "2004 27 75 area assign author backend capabiliti capaciti center column come commitment consistent "
         "contribut debian debug deriv dev developer discount explicit express federal fourth good graph hold ii "
         "impairment incur instrument int interaction june let life loan manipulat meet metadata mount national "
         "nucleotid omit pre prefer presenc production rather rust scienc secur spacer specification sufficient "
         "symbol taxe thing turn weight word"},
    {73, "again aim america amortiz analyz apc backup bank biol board borrow city comparison corporat crat declin "
         "deprecat editor experimental favorabl generator grant half hardwar know none os peopl phas plant plus post "
         "prompt publish reduction scal september session suit translation unix wnt wrapper"},
    {74, "35 55 accord adjust adjustment app approach best blue cmak computer consensus creation dataset desktop "
         "destination dh director discuss driver edit environmental failur fals februari fee fetch filesystem focus "
         "fuel government growth gsk3 her his integer law min mix near nonamer parser pdf portabl positional "
         "reaction replacement rest retriev speci underli varieti warn xml"},
    {75, "000 05 1996 44 accumulat activation allowlist amortization april arbitrari authoriz better commit "
         "communication compensation critical daemon dir drop essential extent extra folder genomic great hand "
         "heptamer info intangibl integration invitation js letter macro majoriti media namespac nativ natur natural "
         "never overall parti population prevent proxi regulation scop sent settlement sheet socket sql stockholder "
         "strain strategi systemd team though trust yield"},
    {76, "2021 48 64 80 accru approv assai attach attributabl authentication auto branch break bucket certificat "
         "collect color contribution demonstrat depreciation derivativ differ doubl efficienci effort europ "
         "executabl expir expos fact filenam fiscal foo frequenci goodwill gui hash hav head health idc lack legal "
         "longer miss modern often packet password pleas proper provision qt random raw recognition recoveri regulat "
         "respect sav say seven ship substantial successful z"},
    {77, "33 95 agent allocat applicabl bar cargo cc completion controll countri cours cpu curv debcargo descriptor "
         "detection driven economic enhanc equipment expand exposur fleet generic graphic graphical holder "
         "improvement introduc invok kind maintenanc margin me mediat offic parallel plain player portfolio powerful "
         "president proc promot provider pure quick receptor recommend relation retain rhythm robust rout self "
         "senior shareholder simp supp switch too treat trigger unlik"},
    {78, "36 archiv began bound classifi co comma compatibiliti conflict conversion cumulativ demand dollar "
         "drosophila ds dsh email employe endpoint excess execution f5location formation gross hedg installation "
         "internet inventori join july layer lib light lock loop manufactur ml mol neuron orf paper peak phenotyp "
         "phylogeni put reach receivabl register resolv restor restriction reveal review rich safeti save speed "
         "struct sub success suitabl suppli sys toolkit understand unset video widget wild york"},
    {79, "02 123 39 45 absolut activat almost arno audio background bacterial body browser char circadian "
         "conservation declar dns doesn elephant embed exceed exception float fly font front glibc gtk identical "
         "insulin insuranc interpret measurement membran mortgag move nuclear outsid owner parasit pointer queu "
         "rapid relevant render representation scor selection split stack summari sure swap synthesis toward "
         "universiti v1 vary verifi vitro"},
    {80, "04 34 37 56 59 90 achiev admin administration aes alignment am analys arkansa ask automatic boot categori "
         "central channel characteristic child clean comment compris contrast copyright de deal evolution exercis "
         "experienc flexibl gas happen hour hous iii industri invocation late leverag lightweight merg metapackag "
         "modification past postgresql prioriti privileg protect pull quot regional routin secret six sold st tcp "
         "traffic utiliz vm"},
    {81, "200 2023 43 54 85 97 alon apis approval aspect authoriti brain chain children choos cleavag commoditi "
         "communiti consol consumer cover deliveri duration encryption enough evidenc extrem fork green idea "
         "identiti infrastructur insid lc liv manner matur oil opportuniti optimiz organism phylogenetic pid putativ "
         "retirement ruby s1 satisfi scan schema seen specifical statistic surfac transition unamortiz usr validat "
         "varianc ve vector"},
    {82, "08 1000 4n 70 84 92 accurat acid administrativ affiliat ai aq arm assess availabiliti big biologi book "
         "borneo calculation caller candidat cb chromosom comparabl dd deploi draw encrypt engineer f5true former "
         "going helper historical impli incorporat indian influenc interval io kinas learn lgt limitation linear "
         "mail malaria mask mutation observation peer popular prepar propos question rais redeem repair repeat reset "
         "retail rfc rnai rsss shift signatur stand substrat sum tak theoretical timeout timestamp titl train "
         "transform unsecur"},
    {83, "07 1994 3d 42 88 append arg association asynchronous authorization behavioral belong blackrock ca card "
         "commission communicat crop decod degre dictionari distinct doing drug earlier ever examin expansion "
         "expectation explanation fit github hub implicit induc initializ initiativ instruction invasion ipv6 iso "
         "journal kms largest libc master medium microarrai minimal nm oligonucleotid oscillation penalti "
         "quantitativ rag resolution revers rna sc schem scientific semi she simplifi skip slight tell ten "
         "traditional transport trend union unknown upgrad upper var variation"},
    {84, "125 2020 38 65 accordanc agenci announc arf aris arrangement art articl ascii asia asian assemb backlog "
         "bacteria black bug cap cli click collateral compress compression concept confirm contact contingent coupl "
         "creativ delai deletion dump en escap extensibl extensiv f5group finish fold foundation hard heavi henc "
         "hierarchi hybridization ids inhibit kde larger launch leav liquiditi login mathematical merger microsoft "
         "mov n2 official onlin overview panel patch pension plasma plasmodium poor practic preserv python3 readi "
         "ref repurchas responsibl ring rock round row rrf slow sound spread ssh ssl subset translat usa visual void "
         "war why win"},
    {85, "111 41 52 63 96 adopt advantag alter annotation antigen anyth artifact automat biological bond bus captur "
         "chosen claim concurrent conduct correlation credential criteria deliver deployment designat distanc divid "
         "download errno especial evaluation expenditur init insert ipv4 kill lateral latter louisiana membership "
         "mous music neither notification operator orient origin ph phosphorylation physical plastid plot "
         "possibiliti pro processor programmer pursuant quantiti readabl red redemption san sensitiv simulation "
         "situation someth stimulat stimulation strategic summariz tab think threshold transcriptional transient txt "
         "unicod vivo wherea whit width worker"},
    {86, "150 46 58 61 750 accessibl according anticipat apach assessment assistant authenticat bear beyond brand "
         "bring california came capitaliz care concern conf conjunction conserv consideration const constraint "
         "continuous coordinat cut dataplex dec desir digit digital direction discontinu diversiti enterpris "
         "equation explain f5compute facilitat fall far faster firewall gmail gnom gs guarante hall highest inherit "
         "invalid jacket keyr laboratori lb ll lnv lot manipulation minor minut nor numeric openssl ordinari php "
         "probab protection q realiz regard residential s2 schizont smaller snapshot social steadi strict subsection "
         "substitution suffix thank tower translocation unrestrict unsign unspecifi unsubordinat verbos vpc west1 "
         "workload"},
    {87, "108 1995 201cmake 300 49 62 81 absenc accelerat accompani advers allocation assumption audienc award "
         "borrower bottom box bridg bundl car catalog construction covenant dataproc dedicat department "
         "developmental easier eliminat else entiti fd forth furthermor gatewai gulf hyphen initiat interpreter john "
         "kb knowledg latest ld legaci likelihood medical middl mm newli pack persistent personal recover recursiv "
         "reject rely researcher revision satellit sens setup south stabl standalon statistical techniqu themselv "
         "thought tier unrecogniz unusual wish xenopus"},
    {88, "1987 68 71 76 accession august behind bin broken bsd calendar cellular challeng choic coefficient commenc "
         "comparativ conclusion controller decid disclosur division drov east1 electric electronic emploi engag feed "
         "fill flux food fram frequent handler highlight hypothesis kubernet led loci lowercas mac machineri "
         "mandatori modular movement nine north numerical older organismal partition permanent pipelin plo pmi "
         "possib prediction productiviti rat registri restructur seek separation shap symbolic talk termination tls "
         "transcription transcriptom transfect transportation uid upload util v2 vaccin valuation vendor wind wrap "
         "yes"},
    {89, "110 128 135 73 89 94 99 abstraction adoption alia arsenal attribution away canada computation "
         "computational correlat diff discover draft ease eight elect electriciti env evolutionari exec face feel "
         "fil fine firm fragment guid horizontal ib indeed inhibition introduction isn jone land literal meta missil "
         "mission mrna noth objectiv par partner pathnam pcr predecessor principl representativ secondari semantic "
         "sole src straight structural subnet todai topologi universal visibl wholesal won x11"},
    {90, "109 120 205 47 51 67 77 91 98 age alternat animal assembl auth bare batch capitalization characteriz chart "
         "chip cod coli columbus composit convenient damp db denot discoveri district domestic driv english "
         "expiration f5test francisco identification indirect inspir interpretation issuer japanes jurisdiction lee "
         "ma matrix meant metric mirror mobil monei numerous nypa obvious officer phosphorylat pipe precis procedur "
         "proteobacteria pub push quit rare reader registrant renam rent replication reproduction revolv room rs "
         "season sensitiviti serial similariti simulat sometim spec stdout supplier sustain trait transmission "
         "treasuri trophozoit uncertainti underscor unrealiz utf wall wast watch weapon weather western worldwid"},
    {91, "124 86 87 93 abbreviation allowanc ancestor arrow assignment assist attack audit australia awar backward "
         "blood boundari capabl citation classification collectiv compliant compos configurabl connectiviti counter "
         "decision depth destroi destruction dynamical edge emac emit encounter etag exclusiv f5cloudsdk fraser gcc "
         "grid institution isolat isolation keyboard keyword layout london lookup mb met ms museum oct orlean "
         "overhead ownership pacific paint park periodic person pick pollution regardless restart rider robot router "
         "school seed seem sh situ spent stori subunit sustainabl synchroniz texa tonight upstream valkyria viewer "
         "worth wrot"},
    {92, "116 121 1371 181 375 400 72 abstract ad allbox allel amplitud ancient antho attachment becam brazilian "
         "buchnera buy cancel chemical complianc conform congress contractual corn detach digest distinguish "
         "duplicat edu einval encourag enforc escherichia everyth examination explor fac footprint gfp giv gm got "
         "grand grow guidelin him hircb hostnam indebtedness indic ing insight ion kit labor lend logic logistic "
         "lost manufacturer ment menu merozoit migration myc newlin nice normaliz ongo pbio pdf01 pend pld pmid "
         "preced proteas pubsub rag1 reconstruction reliabl repo res retract road said scaffold scientist "
         "simultaneous solv stabiliti storm submit tcf th treatment ultimat versus vertical vision volatiliti "
         "whitespac"},
    {93, "115 1989 1993 2003this 275 53 78 7885public 91731545 administrator ago anti anticonsensus barker behav "
         "biology1544 biolpbioplosbiolplo biolplo bonus boost broad cert chronicl colon compilation contingenci "
         "counterparti customiz damag differential difficult directiv divestitur economi egg emission f5example fan "
         "fewer fluctuation forma fraction freedom freight frontend gave healthcar inactiv institut interconnect "
         "interesting latin len locomotiv merchandis mid militari mississippi moreover mt nat nation originat "
         "ortholog overlap overridden owing pam param pictur placement pm preferenc premium pretti repaid reus "
         "robustness roll scalabl sister spectrum stdin strength subscription sul timepoint transmit uncertain "
         "unfavorabl unfund unifi validation websit week young"},
    {94, "118 137 168 1992 201 2025 256 2d 82 annotat apparent arrear behaviour biochemical carbon chem circumstanc "
         "compet consum coverag css dash deni disposal ed exhibit fitzpatrick freedesktop gap goe golang homologu "
         "industrial infer japan kept kinetic listen litigation locomotor math maximal meaningful mysql n1 "
         "neuropeptid num ocaml openstack operational opposit optimization outcom pairwis professional reconstruct "
         "regex rental republic rescu residu rpc sa sci shot soon speak specializ stain strengthen succeed suppress "
         "tight tissu transparent typ unabl unexpect unlimit uris usernam vast verification vice vms west women "
         "workflow writer x86 zip"},
    {95, "09 154 157 1983 2024 79 addr air align allianc antibodi band bash benchmark bermuda bottleneck bt builder "
         "builtin buyout canadian cascad chromosomal collaboration copi council court curr cytohesin death decimal "
         "deposit dispatch dot east eco education european ex excellent f5projects franchis gather gel gke "
         "googleapis grad hidden hpl hurrican hybrid implication incubat indentur intensiti intermediat "
         "intraerythrocytic investigation island kingdom lbx le lifecycl logical mass metal microsatellit "
         "mitochondrial mst negotiat negotiation nest northern notation nt nyse opengl orion overwrit pacemaker "
         "participat peptid plumb pnc poll press projection promis prov rag2 refin remainder remember resal "
         "resistant ric river rrna s3 salmonella sensor shorter silent sj sk societi solexa solid spanner spell "
         "subdirectori surplus symlink theori timer udp undergo understood wage weak"},
    {96, "132 178 1982 2026 2a 57 adequat africa amplifi anyon besid bp brokerag brown cabinet centuri china "
         "competition composition compound consequent convention cultur daili datetim defens diagnostic divergenc dj "
         "f5123 f5instance favor feedback fft fire flower folk formal fortran georgia govern healthi hexadecimal hit "
         "hope icon impair importanc inlin inspection jar joint km lang leader lineag localiz localization los "
         "lowest narrow newer onto perturbation piec plug png pressur preview primitiv prob proprietari prospectiv "
         "reasonabl scc sdk sec sector specificiti squar startup stay stderr strand strik sync technical textual "
         "tion took transformation ts ui undefin"},
    {97, "06 107 117 250 252 364 373 acad affiniti ansi answer antimalarial atomic ball bandwidth battl bigtabl "
         "biochem cadenc callback cd chanc checker cidr citigroup consequenc convenienc cp da deep detectabl "
         "dissociation door dpkg emulator erythrocyt estat f5operation fairi fallback garden gef genotyp gobject "
         "hill homolog homologi hook illustrat inferenc inhibitor inspect installment insufficient integriti jame "
         "kamath latex liabl magnitud mention metabolic metabolism moment multicast ng nhl nonzero novel organiz "
         "ossl pa participant pc pg pkg plasmodb precision quota railroad reclassification recombin reconciliation "
         "reinsuranc replica replicat retir retri rewrit richard ros schatz selectiv sequential sha sharp statutori "
         "strip subnetwork sumatra super surround sustainabiliti tc temperatur thereafter tip told trough tunnel "
         "usabl usb value1 vest visualiz visualization warrant wiki"},
    {98, "1030 2030 303 369 385 3d7 700 abort accelerator adp agre aka alert alias amino apicoplast appearanc apt "
         "atlanta barclai behalf cancer career chicago cipher circuit concatenation croydon cryptographic cyc dark "
         "defensiv der dict discret echo endogenous equilibrium eventual existenc f5global farmer fell fernando "
         "fifth fin gardner gasolin gid glob governmental gun gwh hb3 headquarter heterogeneiti hex huge hundr ice "
         "ideal illinois impossibl inception indicativ induction inhibitori interrupt israel jc je kaneko li linker "
         "lua malaysia metastor minnesota mitigat mj mr multimedia muo natl notifi occurrenc parasitol partnership "
         "patent perfect phospholipas plasmid pod precedenc presidential ptd rank regexp renewabl renn repai "
         "reportabl reservation resum rev ribosylation rsa sbir sd smart soft speech sponsor ssu symbiont synopsis "
         "taiwan tangibl threat throughput transcript transduction trap tty unlock v3 vibrio vpn whenever wildcard "
         "yersinia"},
    {99, "00z 102 1024 105 127 130 180 192 249 261 456 66 69 adjacent android arithmetic armor army balancer bio "
         "bootstrap brief cat classic claus collaborativ comp compact complexiti constrain consumption continual "
         "crypto csv ctx cursor customizabl dbus decad defect determinant discard divers edition enjoi evp fig fs "
         "ftp gb geographic gzip immun inclusion inform inod intel introspection intuitiv latenci ldap libreoffic "
         "loader locus lose manifest markdown md memorystor minimiz moor msg ns pem perhap persist pixel populat "
         "postscript presumab printer printf quantifi ra rd rearrangement reasonab redis regression removal rise "
         "robert scheduler sp ss staff stdio studio synchronous tar temporal trail trial truncat tss uniform "
         "userspac vmwar water"},
    {100, "165 1862 1990 1991 201342 423 83 academic accuraci adapt agonist agreed alcoa algebra amend arf1 "
         "artificial assistanc booo border british brows caption centr civil combat concatenat confirmation "
         "connector converter cooki cpus cytoplasmic daubin dealer decoder deem degrad dilut dispos docker dry "
         "elegan embo epc evolv exert eye f5name feet felt finit flexibiliti genetical gradual greatest hardi heat "
         "helfrich helpful herein hierarchical hint hpi immunol impella incentiv inch indent india indicator "
         "initialization intracellular investigat ipc jm kichler lane maskrai massachusett men mime mod molecul "
         "mutat mutual nasdaq neuronal obsolet phosphatas polymeras pop pr preparation pseudomona purifi pursu "
         "qualitativ ram ramsden recombinant redirect refund reinvest reinvestment resiz rfs rollout rster salic sds "
         "securitization seller separator serum sjs slash song spars speculativ spend stdlib tail tend troop "
         "turnover tv uas unus virginia visit wealthi wrong"},
    {101, "1234 133 144 1986 234 240 2b aid angel ap appeal arriv bad bigqueri biotechnologi blank bold brazil buf "
         "cast chief chines church cl clad club cm complicat conclud defend deny descend dest diseas emphasis ent es "
         "everyon f5region fffd flush foot gameplai geometri girl heart homologous ide idle impos invad ioctl king "
         "lcs lion lisp ls maintainer markup methodologi mono night nj notebook notional oauth observatori pbs "
         "pearson perf probabiliti pseudo radio registration reproduc respond retention ribosomal rough sac serializ "
         "serialization sink soldier span spin spot star starv station steel suffer sun supplementari surpris "
         "suspend svg syslog territori tiny unistd utc uuid value2 variabiliti vital vot vote wash wu"},
    {102, "101 112 113 1211 184 1861 1b 202 231 274 345 394 409 412 455 6823 7385 accessori ace aehf animation aon "
         "arch asexual aviation ban biosynthesis bpf brought button canonical captain caught cgi closest cmd "
         "composer consortium conventional cr crash cron crucial cryptochrom cyc01 dat david delta dephosphorylation "
         "depot depreciabl determination deviation diagram difficulti dimensional django dow downstream dsha dummi "
         "e156k eba175 emb emeri enzym eps establishment executiv expert flank flash ft fun gal4 gps guaranteed "
         "guard heinrich helicopter implicat incremental indefinit indication inherent innovativ intact ips jpeg "
         "lanka license lifescienc louis maco magic mcgraw med mesh middlewar minus moran nameless neighbor netapp "
         "noncritical ochman oettinger op ordnanc orthologous overexpression owed pad payload peninsular pleistocen "
         "portland practical prepend pretax pthread qml ray recombinas reconcil recruit recur regulator resistanc "
         "revert rhythmiciti rosbash rsus savannah se semicolon serviceaccount shutdown shuttl sikorski slower "
         "smooth solver specialti sri statut stronger subsystem superuser supplement surrender synthetic taxa taxabl "
         "tender transitional ttl unaudit unobservabl valuabl van vehicl ventral violation walk whatever "
         "wigglesworthia workforc yeast"},
    {103, "01t00 153 169 1a 270 403 4a 502 affordabl african ag anywher appl assuranc attr australian autoscal "
         "backslash beautiful biggest bitmap blend c99 callabl ce checksum clark codec competitiv con consecutiv "
         "declaration decrypt dependenc dg discretion disposition drawn ecological edward el election emerg emulat "
         "encoder euro famous fault fundamental gcs gpg guest histogram hr identifiabl insertion johnson leak lie "
         "makefil matric mh migrat mind nearest nevertheless nfs peripheral personnel phon playstation predefin "
         "predominant preprocessor privaci ps publication py qt5 ran readm realistic realtim recipient "
         "recommendation recycl repli resid revolution shall singer spring student subroutin syscall tmp tri vertex "
         "workstation"},
    {104, "1063 131 149 189 1923 207 262 273 311 450 669 7a 820 acceleration akamatsu akira ammunition analog anymor "
         "aren astronomical augment aws beneficial buck cgh cgroup climat closur coach complementari conservativ "
         "constitut cooperat counti crisis criterion cultivat cup cy3 darkness deficienci delimit delimiter "
         "democraci dens disconnect dispers distress distributor edmund eligibl embryonic encapsulat enrich equip "
         "eras ethernet evol execv f5backup f5cluster f5policy f5service ferc fight fish flat floor fr fugmann "
         "fulfill func gellert gen genet glib glyph gpu grown guanin ha hat hide honor ietf infect ingress instant "
         "intercept key1 kraft lawrenc lender lt lynch mammalian md5 medicin mil mondel morphological nonconsensus "
         "nonperformanc nonphosphorylat opt organell parkhill pennsylvania peter physiological plasmodial pope pos "
         "prim proportion prototyp puzzl reagent recreat refinanc religious resembl rj roman rt s4 salari sanford "
         "scalar sehgal sfa sha256 shut slic stanewski stringent subclass summation suppos synergi synthesiz "
         "systematical taxon tcl therebi tobacco tone touch tpu transfection translational travel tumor unc unchang "
         "unpublish utf8 vermont wheat worst"},
    {105, "106 140 147 148 161 171 182 266 390 802 a9 abi af ain album alloydb andrew anonymous ar argv assertion "
         "bia blob bool bracket broker bytecod camera chunk circular commander confer cooperation corp curs d5 "
         "deadlin decommission demo disruption duty eclips ee elimination enclos expensiv exploit factori favorit "
         "fcntl fingerprint forecast genbank ghc glass gnupg haplotyp harm historic htm infrar intelligent intensiv "
         "jd lake legend lesser liquid llc llvm midnight mmap mobiliti monetari mp mp3 novo nucleic offlin ogg "
         "optical overwritten periodical po polic pound presentation reboot reposition resident revok royalti "
         "scenario sched settl shorthand sig silicon simpler simulator sizeof synchronization systemctl tank timezon "
         "tm tran transit troubl ula voic wake widespread worm yang"},
    {106, "1083 114 1212 122 129 136 151 16000 201348 201355 201360 2018aes 201c2022 203 2036 2046 232 2982 3049 "
         "312013 3405 3460 366854 3a 4249 472 484 4b 512 527 5583333 579 598 6161 674 747 783 800 86000 93000 abiom "
         "absent adaptation aircraft alleg alongsid america10 analyzer anchor applet argu artist ballistic "
         "bangladesh bankruptci billabl biotech blockad bozdech budget bypass careful carryforward carter chamber "
         "characterization charl chas chemotherapeutic citi citibank cleanup cleav colleg colombian conditional "
         "confederat contemplat convers corner cowell cpack cry cryptokei cytosolic deb defendant denominat "
         "deprecation desiderio dhfr di didn dimension disc distillat dorsal ea elf emotional employment enablement "
         "endosymbiont enteric enum eperm eukaryotic exp expendabl extracellular f5foo fasb fda feasibiliti fenc "
         "fifo fifti fingal fir firestor foreseeabl frb gem geostationari goaltender gogarten grammar gray grep "
         "haemophilus hardin heard hela hiom howson im immuniti immunoprecipitat imp imperial incompatibl "
         "indemnification indigenous inflation innovation insect insensitiv institutional intercellular interim "
         "intersegment iron ironclad javadoc jh jp jvm key2 laps lethaliti ligand linkag lowe luikart malloc mbpd "
         "mechanistic melanogaster merchant merrill microbiol mileston minoriti mo mother motion mpi multithread "
         "nash navigat nl ok orphan oscillator outag overcom overnight overturn parasitic parsimoni paus peac "
         "periodiciti petri petroleum pharma pkc plat playoff ppa prospect puerto r280d randomiz rbc realiti "
         "relational remarket renovation republican resa1 researchdatagroup rico roch romero roof rutila salvag "
         "schlumberger sea sec7 shom si skill sleep sm sock sqlit ssd stockholm suggestion summer sung superior "
         "swanson synthas synthetas tex tracker trident tun ubiquitous undersea underwrit unpaid urban vacation "
         "vatican violat virus wang warfar wasn waterford wayland wors writabl yanke zhang zonal"},
    {107, "164 170 175 179 186 206 215 216 233 247 272 317 361 600 789 addon adult amd64 analytic assur astronomi "
         "binauthz broadcast col cold dialect dialog dictd enemi er err extraction f5domain fashion firmwar fresh "
         "garbag generaliz gpl guess gz heap hypothes hypothetical iap ins kerbero librt lite modifier motif "
         "multipli ncurs nul observabl octal oldest oracl passphras passwd pilot possess propagat pv race rail refus "
         "relocation repeated retrieval scanner selector semiconductor shortcut spawn statical std street stub stuff "
         "substitut te thin throw tpus truetyp twenti u32 wal wine xdg xlib"},
    {108, "145 146 152 160 1985 1c 255 2nd 990 aa abc accumulation acl adapter aeronautic amendment apige "
         "architectural arm64 assembler automation automotiv azur base64 bass blog cabl catch cdna ch checkout "
         "competitor conceiv confus czech debugger decompress deduction def deficit definitiv descrip devel dictat "
         "distant dom e0 eg eighth emergenci emulation enforcement enrichment f5456 familiar forum freedict ge gi "
         "goldendict governor gserviceaccount gtp guidanc guy hear illumina independenc initiation inquiri "
         "instantiat integral intervention ja kafka lazy magazin manpag mason median mg michael mine miscellaneous "
         "modest n3 notion occupi ocr opportunistic optimal overflow overlai pathogen political portabiliti preexist "
         "preliminari prescrib primer prohibit reform refresh reload renew responsibiliti rice robotic scratch "
         "scroll sega sever shadow shipment shop significanc smtp spatial specimen sport sr standardiz surprising "
         "svr4 symmetric terraform theorem tmac toolchain trip tutorial unsaf va voluntari william wing wonder "
         "workspac xx"},
    {109, "103 119 1198 12345 13536 15261 15704 187103 220 319 3576 382 385373 392 3938 3c 401 4091 419 435 448859 "
         "486 491 494 510 570 591 592 74 804 899 advertis advisor agnostic agricultur agricultural alabama allada "
         "america2department ancestral antigenic aphidicola apical arf6 arkadelphia aspartyl ate ation atom ba "
         "barrel baselin battlefield baz bipartisan blacki blot bow br buse camden camp carei carrier casualti "
         "centerpuls certainti charitabl chil christian citizen cj clayton collaborat columbia complaint confocal "
         "consult contributor cooperativ coregulat coregulation cpp curiositi cxx cy5 cyberbulli cytoplasm debat "
         "deduct defectiv defenseman definit depict depositori deteriorat detroit dorothi dos dpdk eastman ecma ecol "
         "ecologi effectiveness egress eletropaulo embryo england enomem entrain escrow euclidian fatal father fear "
         "fellow football forfeitur foster frederick fusion galtier gambia gdna geneticist german glossop golgi gone "
         "gouy grew gtpas headword hell hello hess hockei imap immunoglobulin informativ innocent installer "
         "intention interbank intersection intimat investigator irc irs jain jeff justic kirschner l8 lab leadership "
         "leagu levin lieber lit liver logger lymphocyt mammal marked mary maturation maximus medicar medwai mem "
         "memorial mexico moderat mondavi mosquito msp1 mw n4 n5 n6 nagawa neurosci noncontroll oci ohio overexpress "
         "pasteurella patrol pd pellet percussion pestis pigment pitlak pluggabl polyacrylamid polycistronic "
         "polymorphic postembryonic poverti prais preclud preiser prepayment prescription preset profitabiliti "
         "progression pronounc proposal proud proximat ptr publisher quantitation rap1 rapoport rearrang reception "
         "recruitment redeemabl reinvasion relief revis reykjavik rhythmic ribonucleotid rick rifl roe roth rothman "
         "rumor sabah schibler senat sera sexual sha1 shafer shiller shotgun silenc slot snippet spanopoulou "
         "specifier squad stabiliz stapl streak streamlin subcellular subspeci sumatran svid sweden synonym "
         "synopsis10 talent tariff tcr technological thompson threaten timecours timeless toggl tonegawa toolbox "
         "totten toxin tr trademark traffick transcrib transgenic trillion tyrosin undo unprivileg ups vancouver "
         "vasudevan ventur versa veteran viktor vim violenc vs wilson wire woman wynd xanthomona xb xopen xylella "
         "zimmer"},
    {110, "126 167 188 191 1988 211 223 224 236 267 271 320 343 356 509 abundanc acknowledg advisori alphanumeric "
         "amazon ancillari awareness banner beat clr colour concurrenci condens considerabl consistenci constructor "
         "coreutil correspondenc crypt dashboard decompression decryption defeat demonstration descendant diag "
         "differentiation dissect e9 efault encompass f5roles farm filestor firefox fourier freebsd french gc "
         "gregorian grpc gt handi hyphenation i386 ieee immutabl inclusiv incorrect inet inter interior iteration "
         "jqueri kate lyric maker martin mate maven memcach midi mit mock monad mso navigation nr pascal pe "
         "perspectiv photo pkey postgr projectid qdisc rep rotation selinux seq sibl signifi simon somewhat "
         "sophisticat sphinx spirit stev susceptibl teacher terminfo thereof travers trivial u64 unavailabl unpack "
         "val vi went win32 xs yourself"},
    {111, "335 4096 acceptabl acronym alsa anywai argc basical boy ceil chos cit clang clk commandlin cont corrupt "
         "cpan cred critic cryptic ctest cu datastor declarativ delegat densiti desc disadvantag disrupt distortion "
         "dl doubt dramatical dst ec entitl estimation exclusion ext f5job f5user failover fcitx firebas frank freed "
         "fuse gear gif gnuhealth hospital hover hp hull impressiv incidenc incr increment intermediari ios iproute2 "
         "jackson jdk jump lf lifetim linkstyl literatur marker mib microbial mike mto myspell nasa nvidia "
         "occasional openpgp opinion outgo pag pager phoenix phras policycontroller poly printabl progressiv "
         "prominent proteomic ptrac quantification queen readlin rec reusabl rose saw seamless shield skin smith "
         "solaris spik str subcommand submodul subordinat subscrib supervis tactical tesseract tk tmpfil truli "
         "tryton uncompress unresolv unsupport validator validiti vari wb west2 wikipedia zlib"},
    {112, "134 141 18th 1974 1977 1981 2028 239 3389 3b 483 5312 543 550 552 6th accidental ae asl asn bd bid "
         "biomarker born boxe bs bytestr cairo cambodia cartridg chroot cil clinical clue cme colleagu concomitant "
         "consolidation correction crew crl cryptographi darl dicom disallow dougla dr duke dvd endian enoent episod "
         "eukaryot excl ext4 f5organization f5organizations femal fip fossil gettext girepositori grain greek ham "
         "handful height hmac icmp inabiliti infinit instruct interview jg lexical lm loos ltd mai manuscript "
         "maritim marshall michigan mile millisecond modell morn nacl naval netlink nonblock octet oid organic "
         "outlet outsourc overload oxford parenthes paris paul perimeter persistenc physic pin pl plausibl "
         "possession producer profound programm pron proof rand raven rdf reachabl recurs rom roo rotat royal "
         "schmidt scott simpliciti ssa straightforward struck surviv symfoni telescop terminus tide tiff todd town "
         "tupl twic ubuntu unallocat unlabel unmount vers vintag virtualization vlan vocal vorbis waller winter "
         "wooden x509 xamarin xz"},
    {113, "0113z 0160 1029 1031 11001 1194 123456 123456789 1260 12845 132000 1342 1400 141000 1580 17388 17400 "
         "17800 18100 1863 1872 1920s 1934 1941 1955 197 1department 2014factors 2014liquidity 2014market "
         "2018securities 201c2013 201c2015 201c2021 201cmanagement 201cmerrill 201cnyse 201cwell 20300 2043 208 210 "
         "2347 235 253 260 2682 279 2831 284 290 293t 3086 3173 330 3303 3369 350 3547 3633 3754 384 38957 397 404 "
         "407 4087587 438 442 463 488 4887 495 4950 5154639 523 526 533 5583334 595338000 6142 625 6305 640 "
         "663750000 6648 6826 699 7344 785 803 8161 81881 8268 8347 848 852 877 8859 904 9402 9663 998 99832 abus "
         "accomplish adequaci aegis aeruginosa aground aj akman ally ama1 annuiti appreciation apsc arniel asphalt "
         "assault asthetic atp attain attend autoradiographi basal benson bgp bicycl biotin biotinylat biphasic "
         "bought bristol broaden brochier burden bureau c4isr casanova casemat cashequivalent catalytic catastroph "
         "centraliz chapter charset chawla cholera civilian clearanc coat cocktail colonisation commonwealth compan "
         "consultation contemplation contractor copenhagen cornuet cotton counterpart coyot crack creditor crim ctag "
         "ctrl curtailment dac datagram datatyp debut ded deficient delinquenci devon dfm digitonin disput diverg "
         "diversification domesticat dominican dpy dre dsa dsrna dunnington eagain east4 educat eisen elepha "
         "enumerat epitop epoch eric espp exhibition expedition extrachromosomal f5gs faci fiberglass fifa floren "
         "flowsmillion fluorescent formula gallia gaza gcr gct geographical globus glycogen glycolysis glycolytic "
         "goldman gospel grp1 guaranti hasegawa hcl hepe highwai hillis hmg holidai holik hom household humanitarian "
         "hymn illegal immunoblot incomplet indemnifi indemniti infestation influenza inheritanc injur insolvenci "
         "inspiration intent intrigu invers investor ipr jk joe jury katrina kentucki klarlund kumar kurt lawsuit "
         "leadeth lewis liminat lity liu loadabl localhost lov love macarthur mainland marketabl mart masco "
         "mathematic mcdonald mcfadden meal mexican micro microscop midwest militia millwork mip monoclonal moritz "
         "mpeg msp3 msp5 mtdna multocida n7 na nanci nassda ncopenhagen ne nebraska neighbour nelson nexus nonaxin "
         "nonemploye nostic nspawn nstockholm ntenanc nv nvancouver obligat ogistic oncogenesis ortion othercurrent "
         "otti overcam pandemic parasitiz parish perna pest pharmaceutical phaseogram phosphat phosphatidic pi "
         "pittsburgh pj plautz pleckstrin pledg polyphosphoinositid polyposis posit postcard precursor prepa prepaid "
         "procur propan protest proto proven psc puppet pur purification putin rbh rebuild redundant refuel reinforc "
         "reinstatement reit remarkabl remodel renderer reorganization reproducib reproductiv resolver retire "
         "rhoptri rizzo sach sakimoto schol scsi senator sender senj sentrysaf severiti shigenobu shootout siah "
         "simmer singapor slav soc soil southeastern soybean spark spectrasit spectrometri spellman stengl steriliti "
         "stevor stover striking subpoena substr survival syndicat systemd1 tca tdr tham therma tract transistor "
         "translator translocat tru unbill unconfirm underwent unissu unnecessari unprecedent vallei victori "
         "victorian vious vulnerabiliti wade wei weinberg wellem wildlif williamson wisniewski wt xiii zhao "
         "zhaxybayeva zt15 zt3 zwickl"},
    {114, "0000 187 190 193 194 200112l 221 226 230 243 245 246 257 263 277 305 306 315 324 372 3bsd 5v algebraic "
         "alteration anybodi arc arg2 bc bluetooth brac bzip2 cas clarifi cmek combinator cook customari datastream "
         "dhcp diagnos dock earliest ebadf elegant elevat est exe f5allauthenticatedusers f5allusers f5europe "
         "f5scope f5serviceaccount fastest fl formatter fox fprintf gigabyt gitlab gnustep graceful gridcf guitar "
         "hack halt heuristic infiniti interchang interferenc jack jr k1 landmark localis lomiri mad massiv megabyt "
         "menus mere meteorological microsecond miller myproject nc nonstandard numpi octav optic outlook pane "
         "perror pip playback pleasant rbac readon rebas receiver redirection rel replai restoration revocation rm "
         "sdl sentenc someon spar spreadsheet successor ta tenanci test123 tid traversal udev unfortunat uninstall "
         "versatil webmail"},
    {115, "1918 1973 1d 2048 276 2e 307 371 374 377 900 abbreviat ac acceptanc ann announcement apart assert ast "
         "auxiliari ay ben biochemistri bitbucket bms breadth bulk cal calibration chat classical clearer collision "
         "complement concis cuda customization cutoff dead deb12 del des diffusion drastical dual eacc elaps endif "
         "enhancement entropi epoll ext2 f5789 f5environment f5key fantasi ffi flac fstab fv generous gl god gpus "
         "granulariti gstreamer hdf5 hu ie ig ike ini initrd inject interruption iterat iterator junction korean lfs "
         "lossless mill mimic modem moos mtu nearbi notab nova obj oh opaqu phylip polynomial powerpc proximiti prun "
         "reclassifi reed rpm scen scp seccomp semaphor shak sip siz supersed synchroni sysctl systematic taxonomi "
         "teach tenant thai thirti tweak typedef typeset uis uppercas utilization vault websocket west4 whom xorg "
         "xterm"},
    {116, "1800 1f 4c 620 compressor concert dave decorativ die disclos dominant drag eastern eof eu fake fifteen "
         "fixe gbp i18n internationalization ix mailbox male modulariti opentyp pace pim pop3 prevail psql rational "
         "stab steam submission sundial twelv unhealthi wav worktre"},
};
// clang-format on
const uint32_t rag_embed__hash_weight_row_count = RAG_COUNT_OF(rag_embed__hash_weights);
